// What ./dev perf-gate runs: see kHelp.

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
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
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "bench/baseline.h"
#include "bench/callgrind.h"
#include "bench/comparison.h"
#include "bench/costs.h"
#include "bench/gate_cases.h"
#include "bench/host.h"
#include "bench/subject.h"
#include "bench/throw_away_directory.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr char kHelp[] =
    R"(usage: ./dev perf-gate [FLAG...]

Runs fixed scenarios, counts what an operation costs, and fails if anything costs more than in the
baseline. On files: SQEs, fsyncs, fallocates, bytes of metadata and data, and, one request at a time,
io_uring_enter calls. On a disk that costs nothing (cpu/...): instructions, counted by callgrind,
allocations from the heap, and turns of the loop. These repeat exactly and are compared exactly, but
for instructions (within %.0f%%: compilers and libraries differ) and enters (%.0f%%). Times are printed as
ratios to a raw file's, and so are enters with many requests at a time; neither is judged.

  --accept           make what was measured the baseline
  --baseline=FILE    another baseline than bench/perf_baseline.json, such as one of your own storage
  --dir=DIR          make the images (removed at the end) in DIR instead of here
  --ramdisk[=KIND]   make them on a throw-away file system in memory, xfs or ext4 (as root)
  --only=NAME        only the scenario of this name
)";

struct Flags {
  bool accept = false;
  bool help = false;
  std::string baseline = "bench/perf_baseline.json";
  std::string dir = ".";
  std::string only;
  std::string program = "instructions";  // of the path of //bench:instructions
};

absl::StatusOr<Flags> ParseFlags(const std::vector<std::string>& arguments) {
  Flags flags;
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view argument = arguments[i];
    if (argument == "--accept") {
      flags.accept = true;
    } else if (argument == "--help") {
      flags.help = true;
    } else if (absl::ConsumePrefix(&argument, "--baseline=")) {
      flags.baseline = std::string(argument);
    } else if (absl::ConsumePrefix(&argument, "--dir=")) {
      flags.dir = std::string(argument);
    } else if (argument == "--dir" && i + 1 < arguments.size()) {
      flags.dir = arguments[++i];
    } else if (absl::ConsumePrefix(&argument, "--only=")) {
      flags.only = std::string(argument);
    } else if (absl::ConsumePrefix(&argument, "--instructions=")) {
      flags.program = std::string(argument);
    } else {
      return absl::InvalidArgumentError(absl::StrCat("unknown flag ", argument, "; see --help"));
    }
  }
  return flags;
}

absl::StatusOr<Costs> ReadBaseline(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return absl::NotFoundError(
        absl::StrCat("there is no baseline '", path, "'; --accept makes one"));
  }
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  absl::StatusOr<Costs> costs = ParseCosts(text);
  if (costs.ok()) return costs;
  return absl::InvalidArgumentError(
      absl::StrCat("'", path, "' is no baseline: ", costs.status().message()));
}

absl::Status WriteBaseline(const std::string& path, const Costs& costs) {
  std::ofstream file(path, std::ios::trunc);
  file << FormatCosts(costs) << std::flush;
  if (file) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("could not write '", path, "'"));
}

bool IsWanted(const Flags& flags, const std::string& name) {
  return flags.only.empty() || flags.only == name;
}

std::string InstructionsName(const Case& a_case) { return absl::StrCat("cpu/", a_case.name); }

// What depends on the requests alone, and not on how fast the storage completes them.
std::map<std::string, double> RepeatingCosts(const Case& a_case, const Measured& measured) {
  std::map<std::string, double> costs = CostsPerOp(measured);
  if (a_case.depth > 1) costs.erase("enters_per_op");
  costs.erase("heap_allocations_per_op");  // judged where there is no storage
  return costs;
}

absl::Status MeasureOnFiles(const Flags& flags, Costs& costs) {
  // The directory first: its signals are blocked before any other thread exists.
  ASSIGN_OR_RETURN(const ThrowAwayDirectory directory, ThrowAwayDirectory::Create(flags.dir));
  Loop loop;
  ASSIGN_OR_RETURN(const std::unique_ptr<Rings> rings, Rings::Create(loop));
  const Host host = DescribeHost(directory.path());
  absl::PrintF("%s, %s, %d CPUs\n%-33s %10s %10s\n", host.file_system, host.kernel, host.cpus,
               "not judged:", "times raw", "enters");
  // Every run makes all of its requests, or its counts could not be compared.
  Comparison comparison(*rings, directory, std::nullopt, std::nullopt, std::chrono::hours(24));
  for (const Case& a_case : GateCases()) {
    if (!IsWanted(flags, a_case.name)) continue;
    ASSIGN_OR_RETURN(const Compared compared, comparison.Run(a_case, /*raw_first=*/true));
    costs[a_case.name] = RepeatingCosts(a_case, compared.ours);
    absl::PrintF("%-33s %10.2f %10.3f\n", a_case.name,
                 compared.ours.run.iops() / compared.raw.run.iops(),
                 CostsPerOp(compared.ours).at("enters_per_op"));
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

absl::Status CountOnNullDisk(const Flags& flags, Costs& costs) {
  absl::PrintF("\n%-33s %10s %10s %10s\n", "for each operation:", "instr.", "heap", "turns");
  for (const Case& a_case : InstructionCases()) {
    const std::string name = InstructionsName(a_case);
    if (!IsWanted(flags, name)) continue;
    ASSIGN_OR_RETURN(const CountedRun run, CountInstructions(flags.program, a_case.name));
    const auto per_op = [&](uint64_t amount) {
      return static_cast<double>(amount) / static_cast<double>(run.requests);
    };
    costs[name]["instructions_per_op"] = per_op(run.instructions);
    costs[name]["heap_allocations_per_op"] = per_op(run.heap_allocations);
    costs[name]["turns_per_op"] = per_op(run.turns);
    absl::PrintF("%-33s %10.0f %10.3f %10.3f\n", name, per_op(run.instructions),
                 per_op(run.heap_allocations), per_op(run.turns));
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

// What is not measured this time stays as it is.
absl::Status Accept(const Flags& flags, const Costs& now, Costs baseline) {
  if (flags.only.empty()) baseline.clear();
  for (const auto& [scenario, counts] : now) baseline[scenario] = counts;
  return WriteBaseline(flags.baseline, baseline);
}

// The number of counts that became worse.
absl::StatusOr<size_t> Judge(const Flags& flags) {
  absl::StatusOr<Costs> known = ReadBaseline(flags.baseline);
  if (!known.ok() && !(flags.accept && absl::IsNotFound(known.status()))) return known.status();
  Costs baseline = known.ok() ? *std::move(known) : Costs();

  Costs now;
  RETURN_IF_ERROR(MeasureOnFiles(flags, now));
  RETURN_IF_ERROR(CountOnNullDisk(flags, now));
  if (now.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("no scenario is called '", flags.only, "'"));
  }
  Costs judged = baseline;
  std::erase_if(judged, [&](const auto& entry) { return !IsWanted(flags, entry.first); });
  CostComparison comparison = CompareCosts(judged, now);
  const size_t counts = comparison.unchanged + comparison.changes.size();
  if (flags.accept) {
    std::erase_if(comparison.changes,
                  [](const CostChange& change) { return change.kind == CostChange::Kind::kNew; });
  }
  absl::PrintF("\n%s", DescribeChanges(comparison.changes));
  if (flags.accept) {
    RETURN_IF_ERROR(Accept(flags, now, std::move(baseline)));
    absl::PrintF("'%s' is the baseline now\n%d passed, 0 failed\n", flags.baseline, counts);
    return 0;
  }
  size_t failed = 0;
  for (const CostChange& change : comparison.changes) failed += change.fails() ? 1 : 0;
  const size_t better = comparison.changes.size() - failed;
  if (failed > 0) {
    absl::PrintF("If it is worth it, say why in the commit, and ./dev perf-gate --accept\n");
  } else if (better > 0) {
    absl::PrintF("Better than the baseline: ./dev perf-gate --accept keeps it so\n");
  }
  absl::PrintF("%d passed, %d failed\n", comparison.unchanged + better, failed);
  return failed;
}

}  // namespace
}  // namespace ringcow

int main(int argc, char** argv) {
  const auto flags = ringcow::ParseFlags(std::vector<std::string>(argv + 1, argv + argc));
  if (flags.ok() && flags->help) {
    absl::PrintF(ringcow::kHelp, ringcow::ToleranceOf("instructions_per_op") * 100,
                 ringcow::ToleranceOf("enters_per_op") * 100);
    return 0;
  }
  const absl::StatusOr<size_t> failed = flags.ok() ? ringcow::Judge(*flags) : flags.status();
  if (failed.ok()) return *failed == 0 ? 0 : 1;
  std::fprintf(stderr, "perf-gate: %s\n", std::string(failed.status().message()).c_str());
  return 2;
}
