#include "tests/explorer/trial.h"

#include "absl/strings/str_cat.h"
#include "tests/support/checked.h"

namespace ringcow {

Trial::Trial(const Scenario& scenario, const DiskImage& prepared, const Script& script,
             const ExploreOptions& options)
    : run_(scenario, prepared) {
  run_.OpenAndWork(script);
  run_.Close();
  misbehaviour_ = FindMisbehaviour();
  if (misbehaviour_.empty()) exploration_ = Explore(run_, run_.disk().trace(), options);
}

// A snapshot operation that fails, and cannot be undone, leaves what a crash would have left.
std::string Trial::FindingsAtTheEnd() {
  const Scenario& scenario = run_.scenario();
  if (scenario.io_fails && scenario.takes_snapshots()) {
    return FindingsExceptHarmlessCopied(run_.disk());
  }
  const bool may_leak = scenario.io_fails || scenario.leaked_clusters > 0;
  return may_leak ? FindingsWithoutLeaks(run_.disk()) : Findings(run_.disk());
}

std::string Trial::FindMisbehaviour() {
  if (!run_.guest().misread().empty()) return absl::StrCat("misread: ", run_.guest().misread());
  if (run_.disk().changed_under_way() > 0) return "memory changed while it was being written";
  const bool can_fail = run_.scenario().io_fails;
  if (!can_fail && !run_.opened().ok()) return run_.opened().ToString();
  if (!can_fail && run_.guest().failed() > 0) return "a request failed, though no I/O did";
  run_.disk().SetFaults(nullptr);
  const std::string findings = FindingsAtTheEnd();
  return findings.empty() ? "" : absl::StrCat("the closed image: ", findings);
}

}  // namespace ringcow
