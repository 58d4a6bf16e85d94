#include "tests/explorer/shrink.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/testing/crash_point.h"
#include "tests/explorer/trial.h"

namespace ringcow {
namespace {

using Clock = std::chrono::steady_clock;

// What of a long trace is worth reading.
constexpr size_t kEventsShown = 60;

Script Without(const Script& script, size_t begin, size_t count) {
  Script rest(script.begin(), script.begin() + static_cast<ptrdiff_t>(begin));
  rest.insert(rest.end(), script.begin() + static_cast<ptrdiff_t>(begin + count), script.end());
  return rest;
}

std::string EventsBefore(const DiskTrace& trace, size_t position) {
  std::string text;
  const size_t begin = position - std::min(position, kEventsShown);
  if (begin > 0) absl::StrAppendFormat(&text, "  ... %d events before\n", begin);
  for (size_t i = begin; i < position; ++i) {
    absl::StrAppend(&text, "  ", i, " ", ToString(trace.events()[i]), "\n");
  }
  return text;
}

}  // namespace

Script ShrinkScript(const Scenario& scenario, const DiskImage& prepared, Script script,
                    const ExploreOptions& options, std::chrono::milliseconds limit) {
  const Clock::time_point deadline = Clock::now() + limit;
  for (size_t part = script.size() / 2; part > 0; part /= 2) {
    for (size_t begin = 0; begin + part <= script.size() && Clock::now() < deadline;) {
      Script shorter = Without(script, begin, part);
      if (Trial(scenario, prepared, shorter, options).failed()) {
        script = std::move(shorter);
      } else {
        begin += part;
      }
    }
  }
  return script;
}

Violation ShrinkViolation(const ScenarioRun& run, const DiskTrace& trace, Violation violation) {
  if (violation.verdict.kind == Verdict::Kind::kUnusable) return violation;
  CrashPoint point(trace, run.disk().initial());
  point.AdvanceTo(violation.position);
  Judge judge(run.scenario(), run.guest());
  for (size_t i = 0; i < violation.remnants.size(); ++i) {
    if (violation.remnants[i].kind == Remnant::Kind::kNothing) continue;
    Remnants fewer = violation.remnants;
    fewer[i] = Remnant();
    Verdict verdict = judge.Of(StateOf(point, fewer), violation.position);
    if (!verdict.good()) violation = {violation.position, std::move(fewer), std::move(verdict)};
  }
  return violation;
}

std::string Report(const Scenario& scenario, const Script& script, const DiskImage& prepared,
                   const ExploreOptions& options) {
  const Trial trial(scenario, prepared, script, options);
  std::string text = absl::StrFormat("again: ./dev explore --scenario %s --seed %d --script '%s'\n",
                                     scenario.name, scenario.seed, ToString(script));
  if (!trial.misbehaviour().empty()) {
    return absl::StrCat(text, "without a crash: ", trial.misbehaviour(), "\n");
  }
  if (!trial.exploration().first_violation.has_value()) {
    return absl::StrCat(text, "nothing was found\n");
  }
  const DiskTrace& trace = trial.run().disk().trace();
  const Violation violation =
      ShrinkViolation(trial.run(), trace, *trial.exploration().first_violation);
  CrashPoint point(trace, prepared);
  point.AdvanceTo(violation.position);
  absl::StrAppend(&text, EventsBefore(trace, violation.position), "the power fails after ",
                  violation.position, " events; pending then:\n",
                  Describe(point, violation.remnants), NameOf(violation.verdict.kind), ": ",
                  violation.verdict.what, "\n");
  return text;
}

}  // namespace ringcow
