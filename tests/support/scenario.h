#ifndef RINGCOW_TESTS_SUPPORT_SCENARIO_H_
#define RINGCOW_TESTS_SUPPORT_SCENARIO_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/loop.h"
#include "engine/task.h"
#include "engine/testing/disk_image.h"
#include "engine/testing/sim_disk.h"
#include "qcow2/create.h"
#include "qcow2/image.h"
#include "tests/support/stamped_guest.h"

namespace ringcow {

// What is to happen to an image, so that every I/O it takes can be made to fail and the power can
// be cut after each.
struct Scenario {
  std::string name;
  CreateOptions create;
  OpenOptions open;
  // Guest sectors, from the end of the disk, that are written before the scenario begins.
  uint64_t filled_sectors = 0;
  size_t workers = 3;
  size_t steps = 10;  // of each worker
  uint64_t seed = 1;
  bool can_allocate = true;
};

inline std::ostream& operator<<(std::ostream& out, const Scenario& scenario) {
  return out << scenario.name << scenario.seed;
}

// A fresh image, and one in which the refcount table is about to be too small; as small as they can
// be, for there to be many tables.
std::vector<Scenario> AllScenarios();

// The disk as the scenario finds it.
DiskImage Prepare(const Scenario& scenario);

// Opens the image, writes and flushes by several workers at a time, and closes it. Workers go on
// when something fails. The guest remembers; the image is gone afterwards.
class ScenarioRun {
 public:
  ScenarioRun(const Scenario& scenario, const DiskImage& prepared);

  // Nothing is done when the image cannot be opened.
  void OpenAndWork();
  // Once more, a write of each worker. False when one failed.
  bool WorkSomeMore();
  void Close();

  Loop& loop() { return loop_; }
  SimDisk& disk() { return disk_; }
  Image* image() { return image_.get(); }  // null when it could not be opened
  const StampedGuest& guest() const { return guest_; }
  StampedGuest& guest() { return guest_; }
  const absl::Status& opened() const { return opened_; }

 private:
  Task<absl::Status> Work(size_t worker);
  Task<absl::Status> WriteSome(size_t worker, std::mt19937_64& random);

  const Scenario scenario_;
  Loop loop_;
  SimDisk disk_;
  StampedGuest guest_;
  absl::Status opened_;
  std::unique_ptr<Image> image_;
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_SUPPORT_SCENARIO_H_
