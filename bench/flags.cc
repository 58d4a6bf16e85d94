#include "bench/flags.h"

#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "engine/status_macros.h"

namespace ringcow {

const char kFlagsHelp[] =
    R"(usage: alloc_bench [FLAG...]

Runs allocation-heavy guest workloads on qcow2 images that it makes, through ringcow's engine, next
to the same requests on a raw preallocated file, and prints a table. Needs no flags.

  --vs-qemu          also run them through qemu-img bench (best of io_uring and native)
  --targets          the workloads that have targets, next to what was reached, and the counts that
                     have some; runs QEMU where it is installed
  --report=FILE.html also draw the comparison with QEMU (where it is installed) and the raw file on
                     a page that needs nothing else
  --all              every workload at queue depth 1, 16 and 64, writeback and writethrough
  --quick            one repetition of a quarter of the requests
  --filter=REGEX     of all cases those whose name matches
  --dir=DIR          make the images (up to 2 GiB, removed at the end) in DIR instead of here
  --ramdisk[=KIND]   (of ./dev bench) make them on a throw-away file system in memory, xfs or ext4
  --qd=N,...         queue depths instead of each case's own
  --mode=MODE,...    writeback, writethrough, instead of each case's own
  --plan=FORM,...    how a flush is carried out: auto, chain (linked SQEs), stages, durable (stages,
                     the first by RWF_DSYNC where that is enough); each in turn
  --chain-writes=N   the longest plan that auto makes a chain
  --durable-writes=N the widest first stage that auto writes by RWF_DSYNC
  --merge-gap=BYTES  changes so close to each other become one write
  --chain-ring=RING  where chains are drained: metadata, or data (with the guest's requests)
  --register-files   keep the files in the rings' tables
  --fsyncs-by-kernel leave each fsync to the kernel's threads, also one that nothing goes on beside
  --without=WHAT,... each case also without: reserve (refcounts raised ahead of need), record
                     (of them, to give them back after a crash), zeroes (written ahead while flushes are frequent), early (zero clusters entered
                     before their data is written), growth (of the file, in large steps),
                     neighbours (tables read together with one that is missing)
  --reps=N           repetitions; the table shows medians
  --ops=N            requests of each run instead of the workload's own number
  --seconds=S        begin no request later than this in a run (default 2)
  --benchmark_...    Google Benchmark's own, such as --benchmark_out=FILE.json and
                     --benchmark_format=json
)";

namespace {

constexpr uint64_t kMostRequests = uint64_t{1} << 24;
constexpr uint32_t kMostDepth = 1024;

absl::Status Bad(absl::string_view flag, absl::string_view value, absl::string_view wanted) {
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, "=", value, ": ", wanted, " is expected"));
}

absl::StatusOr<uint64_t> Number(absl::string_view flag, absl::string_view value, uint64_t most) {
  uint64_t number = 0;
  if (absl::SimpleAtoi(value, &number) && number >= 1 && number <= most) return number;
  return Bad(flag, value, absl::StrCat("a number from 1 to ", most));
}

// One of the words in `meanings`.
template <typename T>
absl::StatusOr<T> Choice(absl::string_view flag, absl::string_view value,
                         const std::vector<std::pair<absl::string_view, T>>& meanings) {
  std::string words;
  for (const auto& [word, meaning] : meanings) {
    if (value == word) return meaning;
    absl::StrAppend(&words, words.empty() ? "" : " or ", word);
  }
  return Bad(flag, value, words);
}

template <typename T>
absl::StatusOr<std::vector<T>> Choices(
    absl::string_view flag, absl::string_view value,
    const std::vector<std::pair<absl::string_view, T>>& meanings) {
  std::vector<T> chosen;
  for (const absl::string_view word : absl::StrSplit(value, ',')) {
    ASSIGN_OR_RETURN(const T one, Choice(flag, word, meanings));
    chosen.push_back(one);
  }
  return chosen;
}

absl::StatusOr<std::vector<uint32_t>> Depths(absl::string_view flag, absl::string_view value) {
  std::vector<uint32_t> depths;
  for (const absl::string_view word : absl::StrSplit(value, ',')) {
    ASSIGN_OR_RETURN(const uint64_t depth, Number(flag, word, kMostDepth));
    depths.push_back(static_cast<uint32_t>(depth));
  }
  return depths;
}

absl::StatusOr<std::chrono::nanoseconds> Seconds(absl::string_view flag, absl::string_view value) {
  double seconds = 0;
  if (absl::SimpleAtod(value, &seconds) && seconds > 0 && seconds <= 3600) {
    return std::chrono::nanoseconds(std::llround(seconds * 1e9));
  }
  return Bad(flag, value, "a time up to 3600 seconds");
}

// Whether `name` is a flag without a value, which it then sets.
bool SetSwitch(Flags& flags, absl::string_view name) {
  if (name == "all") {
    flags.all = true;
  } else if (name == "vs-qemu") {
    flags.vs_qemu = true;
  } else if (name == "targets") {
    flags.targets = true;
  } else if (name == "register-files") {
    flags.register_files = true;
  } else if (name == "fsyncs-by-kernel") {
    flags.sync_inline = false;
  } else if (name == "quick") {
    flags.repetitions = 1;
    flags.catalog.divisor = 4;
  } else if (name == "help") {
    flags.help = true;
  } else {
    return false;
  }
  return true;
}

absl::Status SetValue(Flags& flags, absl::string_view name, absl::string_view value) {
  CatalogOptions& catalog = flags.catalog;
  if (name == "dir") {
    flags.dir = std::string(value);
  } else if (name == "report" && !value.empty()) {
    flags.report = std::string(value);
  } else if (name == "revision") {
    flags.revision = std::string(value);
  } else if (name == "filter") {
    flags.filter = std::string(value);
  } else if (name == "qd") {
    ASSIGN_OR_RETURN(catalog.depths, Depths(name, value));
  } else if (name == "mode") {
    ASSIGN_OR_RETURN(catalog.modes,
                     Choices<CacheMode>(name, value,
                                        {{"writeback", CacheMode::kWriteback},
                                         {"writethrough", CacheMode::kWritethrough}}));
  } else if (name == "plan") {
    ASSIGN_OR_RETURN(catalog.forms, Choices<PlanForm>(name, value,
                                                      {{"auto", PlanForm::kAuto},
                                                       {"chain", PlanForm::kChain},
                                                       {"stages", PlanForm::kStages},
                                                       {"durable", PlanForm::kDurable}}));
  } else if (name == "chain-writes") {
    ASSIGN_OR_RETURN(catalog.open_options.write_back.chain_writes, Number(name, value, 1024));
  } else if (name == "durable-writes") {
    ASSIGN_OR_RETURN(catalog.open_options.write_back.durable_writes, Number(name, value, 1024));
  } else if (name == "merge-gap") {
    ASSIGN_OR_RETURN(catalog.open_options.write_back.merge_gap, Number(name, value, 1 << 30));
  } else if (name == "chain-ring") {
    ASSIGN_OR_RETURN(
        catalog.open_options.write_back.chain_lane,
        Choice<Lane>(name, value, {{"metadata", Lane::kMetadata}, {"data", Lane::kData}}));
  } else if (name == "without") {
    for (const absl::string_view what : absl::StrSplit(value, ',')) {
      const std::optional<Variant> variant = Without(what);
      if (!variant.has_value()) {
        return Bad(name, what, "reserve, record, zeroes, early, growth or neighbours");
      }
      catalog.variants.push_back(*variant);
    }
  } else if (name == "reps") {
    ASSIGN_OR_RETURN(const uint64_t repetitions, Number(name, value, 1000));
    flags.repetitions = static_cast<int>(repetitions);
  } else if (name == "ops") {
    ASSIGN_OR_RETURN(catalog.requests, Number(name, value, kMostRequests));
  } else if (name == "seconds") {
    ASSIGN_OR_RETURN(flags.time_limit, Seconds(name, value));
  } else {
    return absl::InvalidArgumentError(absl::StrCat("unknown flag --", name, "; see --help"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Flags> ParseFlags(std::vector<std::string>& arguments) {
  Flags flags;
  std::vector<std::string> others;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const absl::string_view argument = arguments[i];
    if (absl::StartsWith(argument, "--benchmark_") || absl::StartsWith(argument, "--v=")) {
      others.push_back(arguments[i]);
      continue;
    }
    if (!absl::StartsWith(argument, "--")) {
      return absl::InvalidArgumentError(absl::StrCat("'", argument, "' is not a flag; see --help"));
    }
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(argument.substr(2), absl::MaxSplits('=', 1));
    if (absl::StrContains(argument, '=')) {
      RETURN_IF_ERROR(SetValue(flags, parts.first, parts.second));
    } else if (!SetSwitch(flags, parts.first)) {
      // --dir DIR
      const bool has_next = i + 1 < arguments.size();
      RETURN_IF_ERROR(SetValue(flags, parts.first, has_next ? arguments[++i] : ""));
    }
  }
  arguments = std::move(others);
  return flags;
}

}  // namespace ringcow
