#ifndef RINGCOW_TESTS_EXPLORER_TRIAL_H_
#define RINGCOW_TESTS_EXPLORER_TRIAL_H_

#include <string>

#include "engine/testing/disk_image.h"
#include "tests/explorer/explore.h"
#include "tests/explorer/scenario.h"
#include "tests/explorer/scenario_run.h"
#include "tests/explorer/script.h"

namespace ringcow {

// A scenario that is carried out from beginning to end, and then explored.
class Trial {
 public:
  Trial(const Scenario& scenario, const DiskImage& prepared, const Script& script,
        const ExploreOptions& options);

  bool failed() const { return !misbehaviour_.empty() || exploration_.first_violation.has_value(); }
  // What went wrong without any crash: something was misread, or the closed image is not clean.
  const std::string& misbehaviour() const { return misbehaviour_; }
  const Exploration& exploration() const { return exploration_; }
  const ScenarioRun& run() const { return run_; }

 private:
  std::string FindMisbehaviour();
  std::string FindingsAtTheEnd();

  ScenarioRun run_;
  std::string misbehaviour_;
  Exploration exploration_;
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_TRIAL_H_
