#ifndef RINGCOW_TESTS_EXPLORER_SCENARIO_RUN_H_
#define RINGCOW_TESTS_EXPLORER_SCENARIO_RUN_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "engine/loop.h"
#include "engine/task.h"
#include "engine/testing/disk_image.h"
#include "engine/testing/sim_disk.h"
#include "qcow2/image.h"
#include "tests/explorer/inherited_disk.h"
#include "tests/explorer/scenario.h"
#include "tests/explorer/script.h"
#include "tests/support/stamped_guest.h"

namespace ringcow {

// A scenario on a simulated disk: opens the image, lets the workers carry out a script side by
// side, and closes it. Workers go on when something fails. The guest remembers; the image is gone
// afterwards. What happens follows from the scenario and the script alone.
class ScenarioRun {
 public:
  ScenarioRun(const Scenario& scenario, const DiskImage& prepared, SimDisk::Flaws flaws = {});

  // Nothing is done when the image cannot be opened.
  void OpenAndWork(const Script& script);
  void OpenAndWork() { OpenAndWork(MakeScript(scenario_)); }
  // Once more, a write of each worker. False when one failed.
  bool WorkSomeMore();
  void Close();

  const Scenario& scenario() const { return scenario_; }
  Loop& loop() { return loop_; }
  SimDisk& disk() { return disk_; }
  const SimDisk& disk() const { return disk_; }
  // Options to open the image with, its backing file among them.
  OpenOptions open_options() {
    OpenOptions options = scenario_.open;
    options.backing = &inherited_;
    return options;
  }
  Image* image() { return image_.get(); }  // null when it could not be opened
  const StampedGuest& guest() const { return guest_; }
  StampedGuest& guest() { return guest_; }
  const absl::Status& opened() const { return opened_; }

 private:
  void LetOneFail();
  Task<absl::Status> Work(std::vector<Step> steps);

  const Scenario scenario_;
  Loop loop_;
  SimDisk disk_;
  InheritedDisk inherited_;
  StampedGuest guest_;
  absl::Status opened_;
  std::unique_ptr<Image> image_;
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_SCENARIO_RUN_H_
