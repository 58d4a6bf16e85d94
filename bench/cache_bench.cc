// The forms in which the metadata cache writes back, against each other: see kUsage.

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "bench/barrier.h"
#include "bench/host.h"
#include "bench/throw_away_directory.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr char kUsage[] =
    R"(usage: cache_bench [--dir=DIR] [--rounds=N] [--barriers=N] [--tables=N,...]

Measures a flush of the metadata cache on a file of 128 MiB in DIR: N changed tables, and N more that
have to follow them. The forms take turns in each round, each with so many barriers; times are
medians of rounds, and ratios medians of the ratios in one round. Counters are per barrier.
)";

struct Settings {
  std::string dir = ".";
  uint32_t rounds = 15;
  uint32_t barriers = 30;
  std::vector<uint32_t> tables;  // instead of each part's own; then without the last part
};

struct Form {
  const char* name;
  PlanForm form;
  Lane chain_lane;
  bool sync_inline = false;
};
constexpr Form kForms[] = {
    {"stages", PlanForm::kStages, Lane::kMetadata},
    {"chain", PlanForm::kChain, Lane::kMetadata},
    {"chain, data ring", PlanForm::kChain, Lane::kData},
    {"chain, inline", PlanForm::kChain, Lane::kMetadata, true},
    {"stages, inline", PlanForm::kStages, Lane::kMetadata, true},
    {"durable first", PlanForm::kDurable, Lane::kMetadata},
};
constexpr size_t kFormCount = std::size(kForms);
constexpr double kStreamAloneSeconds = 0.05;

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// One line of a table: a form, over all rounds.
struct Line {
  std::vector<double> us;
  std::vector<double> ratios;  // of its time to the first form's in the same round
  std::vector<double> kept;    // of the stream's rate alone
  BarrierRun last;             // counters repeat
};

BarrierCase CaseOf(const Form& form, uint32_t tables, bool with_stream) {
  BarrierCase a_case;
  a_case.options.form = form.form;
  a_case.options.chain_lane = form.chain_lane;
  a_case.options.merge_gap = 0;
  a_case.tables = tables;
  a_case.with_stream = with_stream;
  a_case.sync_inline = form.sync_inline;
  return a_case;
}

absl::Status CompareForms(const Settings& settings, const std::string& file, uint32_t tables,
                          bool with_stream) {
  Line lines[kFormCount];
  for (uint32_t round = 0; round < settings.rounds; ++round) {
    double alone = 1;
    if (with_stream) {
      ASSIGN_OR_RETURN(const BarrierRun run,
                       RunBarriers(file, CaseOf(kForms[0], 1, true), 0, kStreamAloneSeconds));
      alone = run.stream_rate;
    }
    double us[kFormCount];
    for (size_t i = 0; i < kFormCount; ++i) {
      const size_t form = (i + round) % kFormCount;
      ASSIGN_OR_RETURN(
          lines[form].last,
          RunBarriers(file, CaseOf(kForms[form], tables, with_stream), settings.barriers, 0));
      us[form] = lines[form].last.median_us;
      lines[form].kept.push_back(lines[form].last.stream_rate / alone);
    }
    for (size_t form = 0; form < kFormCount; ++form) {
      lines[form].us.push_back(us[form]);
      lines[form].ratios.push_back(us[form] / us[0]);
    }
  }
  for (size_t form = 0; form < kFormCount; ++form) {
    const Line& line = lines[form];
    std::printf("%5u  %-17s %8.0f %7.2f", tables, kForms[form].name, Median(line.us),
                Median(line.ratios));
    if (with_stream) {
      std::printf(" %7.2f\n", Median(line.kept));
    } else {
      std::printf(" %7.1f %7.1f %7.1f\n", line.last.sqes, line.last.enters, line.last.fsyncs);
    }
  }
  std::printf("\n");
  return absl::OkStatus();
}

// Two changes so far apart, as two writes and as one with what lies between.
absl::Status CompareGaps(const Settings& settings, const std::string& file, uint32_t distance) {
  for (const Form& form : {kForms[0], kForms[1]}) {
    std::vector<double> us[2];
    std::vector<double> ratios;
    BarrierRun merged;
    for (uint32_t round = 0; round < settings.rounds; ++round) {
      for (uint32_t i = 0; i < 2; ++i) {
        const bool merges = (i + round) % 2 == 1;
        BarrierCase a_case = CaseOf(form, 2, false);
        a_case.distance = distance;
        a_case.one_stage = true;
        a_case.options.merge_gap = merges ? uint64_t{1} << 30 : 0;
        ASSIGN_OR_RETURN(const BarrierRun run, RunBarriers(file, a_case, settings.barriers, 0));
        us[merges ? 1 : 0].push_back(run.median_us);
        if (merges) merged = run;
      }
      ratios.push_back(us[1].back() / us[0].back());
    }
    std::printf("%5u  %-17s %8.0f %8.0f %7.2f %7.1f %8.0f\n", distance * 4, form.name,
                Median(us[0]), Median(us[1]), Median(ratios), merged.writes, merged.metadata_bytes);
  }
  return absl::OkStatus();
}

absl::Status Run(const Settings& settings) {
  ASSIGN_OR_RETURN(const ThrowAwayDirectory directory, ThrowAwayDirectory::Create(settings.dir));
  const std::string file = directory.File("tables");
  RETURN_IF_ERROR(PrepareBarrierFile(file));
  const Host host = DescribeHost(directory.path());
  std::printf("Flushes of the metadata cache: %s, %s, %d CPUs\n\n", host.file_system.c_str(),
              host.kernel.c_str(), host.cpus);

  std::printf("N tables, then N tables; nothing else under way\n");
  std::printf("    N  form                    us   ratio    SQEs  enters  fsyncs\n");
  const std::vector<uint32_t>& chosen = settings.tables;
  for (const uint32_t tables :
       chosen.empty() ? std::vector<uint32_t>{1, 2, 3, 4, 6, 8, 16, 32} : chosen) {
    RETURN_IF_ERROR(CompareForms(settings, file, tables, /*with_stream=*/false));
  }
  std::printf("The same beside 32 writes of 4 KiB at a time; what these keep of their rate\n");
  std::printf("    N  form                    us   ratio    kept\n");
  for (const uint32_t tables : chosen.empty() ? std::vector<uint32_t>{1, 4, 16} : chosen) {
    RETURN_IF_ERROR(CompareForms(settings, file, tables, /*with_stream=*/true));
  }
  if (!chosen.empty()) return absl::OkStatus();
  std::printf("Two changes in one table, as two writes and as one\n");
  std::printf("  KiB  form                 two us   one us   ratio  writes    bytes\n");
  for (const uint32_t distance : {2, 4, 8, 16, 32, 64, 128}) {
    RETURN_IF_ERROR(CompareGaps(settings, file, distance));
  }
  return absl::OkStatus();
}

absl::Status Main(const std::vector<absl::string_view>& arguments) {
  Settings settings;
  for (absl::string_view argument : arguments) {
    if (argument == "--help") {
      std::printf("%s", kUsage);
      return absl::OkStatus();
    }
    if (absl::ConsumePrefix(&argument, "--dir=")) {
      settings.dir = std::string(argument);
      continue;
    }
    if (absl::ConsumePrefix(&argument, "--tables=")) {
      for (const absl::string_view word : absl::StrSplit(argument, ',')) {
        uint32_t tables = 0;
        if (!absl::SimpleAtoi(word, &tables) || tables < 1 || tables > 64) {
          return absl::InvalidArgumentError(kUsage);
        }
        settings.tables.push_back(tables);
      }
      continue;
    }
    uint32_t* const number = absl::ConsumePrefix(&argument, "--rounds=")     ? &settings.rounds
                             : absl::ConsumePrefix(&argument, "--barriers=") ? &settings.barriers
                                                                             : nullptr;
    if (number == nullptr || !absl::SimpleAtoi(argument, number) || *number == 0) {
      return absl::InvalidArgumentError(kUsage);
    }
  }
  return Run(settings);
}

}  // namespace
}  // namespace ringcow

int main(int argc, char** argv) {
  const absl::Status status = ringcow::Main(std::vector<absl::string_view>(argv + 1, argv + argc));
  if (status.ok()) return 0;
  std::fprintf(stderr, "cache_bench: %s\n", std::string(status.message()).c_str());
  return 1;
}
