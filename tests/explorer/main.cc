// The crash explorer as a program: `./dev explore`. Goes through scenarios and seeds until its time
// is over or something is found.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "tests/explorer/explore.h"
#include "tests/explorer/prepare.h"
#include "tests/explorer/scenario.h"
#include "tests/explorer/script.h"
#include "tests/explorer/shrink.h"
#include "tests/explorer/trial.h"

namespace ringcow {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kUsage[] =
    "usage: ./dev explore [FLAGS]\n"
    "\n"
    "Runs scenarios on a simulated disk, cuts the power at every point of what they did, and "
    "judges\n"
    "every disk that could be left. Ends with status 1 and a report when one is not as it must "
    "be.\n"
    "\n"
    "  --budget SECONDS   how long (60)\n"
    "  --seed N           the first seed; the next ones follow (1)\n"
    "  --scenario NAME    only this one, by default all in turn\n"
    "  --script STEPS     with --scenario and --seed: these steps, once, instead of random ones\n"
    "  --states N         at most so many states of each run (4000)\n"
    "  --list             the names of the scenarios\n";

struct Flags {
  uint64_t seed = 1;
  uint64_t budget = 60;  // seconds
  uint64_t states = 4000;
  std::vector<Scenario> scenarios = AllScenarios();
  std::string script;
};

// Nothing, after saying why, when they are wrong.
std::optional<Flags> ParseFlags(const std::vector<absl::string_view>& words) {
  Flags flags;
  for (size_t i = 0; i < words.size(); i += 2) {
    const absl::string_view value = i + 1 < words.size() ? words[i + 1] : "";
    bool ok = true;
    if (words[i] == "--seed") {
      ok = absl::SimpleAtoi(value, &flags.seed);
    } else if (words[i] == "--budget") {
      ok = absl::SimpleAtoi(value, &flags.budget);
    } else if (words[i] == "--states") {
      ok = absl::SimpleAtoi(value, &flags.states);
    } else if (words[i] == "--scenario") {
      const Scenario* scenario = FindScenario(value);
      ok = scenario != nullptr;
      if (ok) flags.scenarios = {*scenario};
    } else if (words[i] == "--script") {
      flags.script = std::string(value);
    } else {
      ok = false;
    }
    if (!ok) {
      absl::FPrintF(stderr, "explore: '%s %s' is not understood\n\n%s", words[i], value, kUsage);
      return std::nullopt;
    }
  }
  if (!flags.script.empty() && flags.scenarios.size() != 1) {
    absl::FPrintF(stderr, "explore: --script needs --scenario\n\n%s", kUsage);
    return std::nullopt;
  }
  return flags;
}

struct Tally {
  size_t runs = 0;
  size_t states = 0;
  size_t gone_on = 0;
};

class Program {
 public:
  explicit Program(const Flags& flags)
      : flags_(flags), deadline_(Clock::now() + std::chrono::seconds(flags.budget)) {
    options_.max_states = flags.states;
    for (const Scenario& scenario : flags.scenarios) prepared_.push_back(Prepare(scenario));
  }

  int Run() {
    const Clock::time_point begin = Clock::now();
    bool found = false;
    for (uint64_t seed = flags_.seed; !found && Clock::now() < deadline_; ++seed) {
      for (size_t i = 0; i < prepared_.size() && !found && Clock::now() < deadline_; ++i) {
        found = TryOne(WithSeed(flags_.scenarios[i], seed), prepared_[i]);
      }
    }
    PrintTallies(std::chrono::duration<double>(Clock::now() - begin).count());
    return found ? 1 : 0;
  }

  int RunScript() {
    const Scenario scenario = WithSeed(flags_.scenarios[0], flags_.seed);
    const absl::StatusOr<Script> script = ParseScript(flags_.script, scenario.units());
    if (!script.ok()) {
      absl::FPrintF(stderr, "explore: %s\n", script.status().message());
      return 2;
    }
    absl::PrintF("%s", Report(scenario, *script, prepared_[0], options_));
    return Trial(scenario, prepared_[0], *script, options_).failed() ? 1 : 0;
  }

 private:
  bool TryOne(const Scenario& scenario, const DiskImage& prepared) {
    options_.seed = scenario.seed;
    const Script script = MakeScript(scenario);
    const Trial trial(scenario, prepared, script, options_);
    Tally& tally = tallies_[scenario.name];
    ++tally.runs;
    tally.states += trial.exploration().states;
    tally.gone_on += trial.exploration().gone_on;
    if (!trial.failed()) return false;
    absl::PrintF("%s, seed %d: something was found, making it small...\n", scenario.name,
                 scenario.seed);
    std::fflush(stdout);
    const Script small =
        ShrinkScript(scenario, prepared, script, options_, std::chrono::seconds(60));
    absl::PrintF("%s", Report(scenario, small, prepared, options_));
    return true;
  }

  void PrintTallies(double seconds) const {
    Tally sum;
    absl::PrintF("%-28s %8s %10s %10s\n", "scenario", "runs", "states", "gone on");
    for (const auto& [name, tally] : tallies_) {
      absl::PrintF("%-28s %8d %10d %10d\n", name, tally.runs, tally.states, tally.gone_on);
      sum.runs += tally.runs;
      sum.states += tally.states;
      sum.gone_on += tally.gone_on;
    }
    absl::PrintF("%-28s %8d %10d %10d in %.1f s\n", "all", sum.runs, sum.states, sum.gone_on,
                 seconds);
  }

  const Flags flags_;
  const Clock::time_point deadline_;
  ExploreOptions options_;
  std::vector<DiskImage> prepared_;
  std::map<std::string, Tally> tallies_;
};

int Main(const std::vector<absl::string_view>& words) {
  if (words.size() == 1 && (words[0] == "--help" || words[0] == "-h")) {
    absl::PrintF("%s", kUsage);
    return 0;
  }
  if (words.size() == 1 && words[0] == "--list") {
    for (const Scenario& scenario : AllScenarios()) absl::PrintF("%s\n", scenario.name);
    return 0;
  }
  const std::optional<Flags> flags = ParseFlags(words);
  if (!flags.has_value()) return 2;
  Program program(*flags);
  return flags->script.empty() ? program.Run() : program.RunScript();
}

}  // namespace
}  // namespace ringcow

int main(int argc, char** argv) {
  return ringcow::Main(std::vector<absl::string_view>(argv + 1, argv + argc));
}
