// The allocation benchmark: see flags.cc for its usage, report.cc for what its figures mean.

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/catalog.h"
#include "bench/comparison.h"
#include "bench/flags.h"
#include "bench/host.h"
#include "bench/html_report.h"
#include "bench/qemu.h"
#include "bench/report.h"
#include "bench/targets.h"
#include "bench/throw_away_directory.h"
#include "benchmark/benchmark.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "engine/status_macros.h"
#include "engine/uring_disk.h"

namespace ringcow {
namespace {

// What the file system does not offer; empty when nothing is missing.
absl::StatusOr<std::string> Probe(Rings& rings, const ThrowAwayDirectory& directory) {
  UringDisk::Options options;
  options.creation = UringDisk::Creation::kExclusive;
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk,
                   UringDisk::Open(rings, directory.File("probe"), options));
  return disk->notice();
}

std::string Preamble(const Host& host, const std::optional<QemuImg>& qemu, bool is_rival,
                     const std::vector<std::string>& notices) {
  std::string text =
      absl::StrCat("Guest requests on qcow2 images, through ringcow's engine: ", host.file_system,
                   ", ", host.kernel, ", ", host.cpus, " CPUs, ");
  if (qemu.has_value()) {
    absl::StrAppend(&text, "QEMU ", qemu->version(),
                    is_rival ? "\n" : " (checks the images; --vs-qemu compares)\n");
  } else {
    absl::StrAppend(&text, "no qemu-img (images are checked by ringcow alone)\n");
  }
  for (const std::string& notice : notices) absl::StrAppend(&text, "Note: ", notice, "\n");
  return text;
}

Facts FactsOf(const Flags& flags, const Host& host, const std::optional<QemuImg>& qemu) {
  const std::string processor = host.processor.empty() ? "" : absl::StrCat(host.processor, ", ");
  Facts facts = {
      {"Machine", absl::StrFormat("%s%d CPUs, %.0f GiB", processor, host.cpus,
                                  static_cast<double>(host.memory_bytes) / (uint64_t{1} << 30))},
      {"Kernel", host.kernel},
      {"File system", host.file_system},
      {"QEMU", qemu.has_value() ? qemu->version() : "not installed"},
      {"Medians of", absl::StrCat(flags.repetitions, flags.repetitions == 1 ? " run" : " runs")},
      {"Taken", absl::FormatTime("%Y-%m-%d", absl::Now(), absl::UTCTimeZone())},
  };
  if (!flags.revision.empty()) facts.emplace(facts.begin(), "ringcow", flags.revision);
  return facts;
}

void AddContext(const Host& host, const std::optional<QemuImg>& qemu) {
  benchmark::AddCustomContext("kernel", host.kernel);
  benchmark::AddCustomContext("file_system", host.file_system);
  benchmark::AddCustomContext("qemu", qemu.has_value() ? qemu->version() : "none");
}

std::vector<Case> ChosenCases(const Flags& flags) {
  if (flags.targets) return TargetCases(flags.catalog);
  const bool is_matrix = flags.all || !flags.filter.empty();
  return is_matrix ? FullMatrix(flags.catalog) : ShortList(flags.catalog);
}

class Session {
 public:
  Session(const Flags& flags, Comparison& comparison) : flags_(flags), comparison_(comparison) {}

  // `a_case` and this must outlive the benchmarks.
  void Register(const Case& a_case) {
    benchmark::RegisterBenchmark(a_case.name.c_str(),
                                 [this, &a_case](benchmark::State& state) { Run(state, a_case); })
        ->Iterations(1)
        ->Repetitions(flags_.repetitions)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  }

  bool failed() const { return failed_; }

 private:
  void Run(benchmark::State& state, const Case& a_case) {
    while (state.KeepRunning()) {
      raw_first_ = !raw_first_;
      const absl::StatusOr<Compared> compared = comparison_.Run(a_case, raw_first_);
      if (!compared.ok()) {
        failed_ = true;
        const std::string message(compared.status().message());
        std::fprintf(stderr, "alloc_bench: %s: %s\n", a_case.name.c_str(), message.c_str());
        state.SkipWithError(message.c_str());
        return;
      }
      state.SetIterationTime(compared->ours.run.seconds());
      SetCounters(*compared, state.counters);
    }
  }

  const Flags& flags_;
  Comparison& comparison_;
  bool raw_first_ = false;
  bool failed_ = false;
};

// Google Benchmark's own tables and JSON on stdout, when they are asked for.
bool IsFormatChosen(const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (absl::StartsWith(argument, "--benchmark_format") ||
        absl::StartsWith(argument, "--benchmark_list_tests")) {
      return true;
    }
  }
  return false;
}

absl::Status InitializeBenchmark(const char* program, std::vector<std::string> arguments) {
  std::vector<char*> words = {const_cast<char*>(program)};
  for (std::string& argument : arguments) words.push_back(argument.data());
  int count = static_cast<int>(words.size());
  benchmark::Initialize(&count, words.data());
  if (count == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("unknown flag ", words[1], "; see --help"));
}

absl::Status RunBenchmarks(const Flags& flags, bool has_own_format) {
  // The directory first: its signals are blocked before any other thread exists.
  ASSIGN_OR_RETURN(const ThrowAwayDirectory directory, ThrowAwayDirectory::Create(flags.dir));
  Loop loop;
  ASSIGN_OR_RETURN(const std::unique_ptr<Rings> rings,
                   Rings::Create(loop, {.register_files = flags.register_files,
                                        .sync_inline = flags.sync_inline}));
  std::vector<std::string> notices = rings->notices();
  ASSIGN_OR_RETURN(const std::string notice, Probe(*rings, directory));
  if (!notice.empty()) notices.push_back(notice);

  const std::optional<QemuImg> qemu = QemuImg::Find();
  if (flags.vs_qemu && !qemu.has_value()) {
    return absl::NotFoundError("--vs-qemu needs qemu-img, which is not installed");
  }
  const Host host = DescribeHost(directory.path());
  AddContext(host, qemu);

  const std::vector<Case> cases = ChosenCases(flags);
  const bool is_compared = flags.targets || !flags.report.empty();
  const bool is_rival = flags.vs_qemu || (is_compared && qemu.has_value());
  Comparison comparison(*rings, directory, qemu, is_rival ? qemu : std::nullopt, flags.time_limit);
  Session session(flags, comparison);
  for (const Case& a_case : cases) session.Register(a_case);
  if (!flags.filter.empty()) benchmark::SetBenchmarkFilter(flags.filter);

  const std::string preamble = Preamble(host, qemu, is_rival, notices);
  RateTable table(preamble);
  TargetTable targets(preamble);
  std::vector<Presentation*> presentations;
  if (flags.targets) {
    presentations.push_back(&targets);
  } else {
    presentations.push_back(&table);
  }
  std::optional<HtmlReport> report;
  if (!flags.report.empty()) {
    if (has_own_format) return absl::InvalidArgumentError("--report goes with our own table only");
    ASSIGN_OR_RETURN(HtmlReport page, HtmlReport::Create(flags.report, FactsOf(flags, host, qemu)));
    report.emplace(std::move(page));
    presentations.push_back(&*report);
  }
  RowReporter reporter(cases, std::move(presentations));
  const size_t run = benchmark::RunSpecifiedBenchmarks(has_own_format ? nullptr : &reporter);
  benchmark::ClearRegisteredBenchmarks();
  RETURN_IF_ERROR(reporter.status());
  if (session.failed()) return absl::InternalError("not all workloads ended well (see above)");
  if (run == 0) return absl::InvalidArgumentError("no workload has such a name");
  return absl::OkStatus();
}

absl::Status Main(const char* program, std::vector<std::string> arguments) {
  ASSIGN_OR_RETURN(const Flags flags, ParseFlags(arguments));
  if (flags.help) {
    std::printf("%s", kFlagsHelp);
    return absl::OkStatus();
  }
  const bool has_own_format = IsFormatChosen(arguments);
  RETURN_IF_ERROR(InitializeBenchmark(program, std::move(arguments)));
  const absl::Status status = RunBenchmarks(flags, has_own_format);
  benchmark::Shutdown();
  return status;
}

}  // namespace
}  // namespace ringcow

int main(int argc, char** argv) {
  const absl::Status status =
      ringcow::Main(argv[0], std::vector<std::string>(argv + 1, argv + argc));
  if (status.ok()) return 0;
  std::fprintf(stderr, "alloc_bench: %s\n", std::string(status.message()).c_str());
  return 1;
}
