#ifndef RINGCOW_TESTS_EXPLORER_VERDICT_H_
#define RINGCOW_TESTS_EXPLORER_VERDICT_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "engine/aligned_buffer.h"
#include "engine/testing/disk_image.h"
#include "tests/explorer/inherited_disk.h"
#include "tests/explorer/scenario.h"
#include "tests/support/stamped_guest.h"

namespace ringcow {

// What a crash has left is good when the check finds nothing worse than leaks and the guest finds
// what it was promised; else this is what is wrong.
struct Verdict {
  enum class Kind : uint8_t {
    kGood,
    kCorrupt,     // the check found more than leaks (I1, I4)
    kUnreadable,  // it cannot be opened, or not be read
    kWrongData,   // flushed data is lost (I3), or there are bytes that nobody wrote there (I2)
    kReclaimed,   // it is good until it is opened for writing, which gives back what was reserved
    kUnusable,    // it is good until somebody goes on writing to it
  };

  Kind kind = Kind::kGood;
  std::string what;

  bool good() const { return kind == Kind::kGood; }
};

absl::string_view NameOf(Verdict::Kind kind);

// Judges the states that one run may leave. Of the run's guest and scenario, which must outlive it.
class Judge {
 public:
  Judge(const Scenario& scenario, const StampedGuest& guest)
      : scenario_(scenario),
        guest_(guest),
        inherited_(scenario.inherited_units, scenario.unit_bytes),
        bytes_(guest.disk_bytes()) {}

  // The state of a disk after a crash when the run's trace was `position` events long.
  Verdict Of(const DiskImage& state, size_t position);

  // Opens a good state for writing, goes on with random requests, flushes and closes: afterwards
  // the image is good again, and holds what was written now and what was there before.
  Verdict OfGoingOn(const DiskImage& state, uint64_t seed);

 private:
  OpenOptions WithBacking(OpenOptions options) {
    options.backing = &inherited_;
    return options;
  }
  std::string Harm(Disk& disk) const;
  // The guest's half of the verdict.
  Verdict OfGuest(Disk& disk, size_t position);
  // Of a disk with a record of what is reserved.
  Verdict OfReclaiming(Disk& disk, size_t position);

  const Scenario& scenario_;
  const StampedGuest& guest_;
  InheritedDisk inherited_;
  AlignedBuffer bytes_;  // all of the guest's disk
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_VERDICT_H_
