#ifndef RINGCOW_TESTS_EXPLORER_OPERATION_H_
#define RINGCOW_TESTS_EXPLORER_OPERATION_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/task.h"
#include "qcow2/image.h"
#include "tests/support/stamped_guest.h"

namespace ringcow {

// Where an operation is to happen: units of the guest's disk that belong to one worker.
struct UnitRange {
  uint64_t first = 0;
  uint64_t count = 0;
};

// Something that is done to an image in a scenario. What the guest may see afterwards is told to
// the StampedGuest: whatever is read after a crash is judged by that alone. A new kind of request
// is one more constant here and in kOperations, and a weight in the scenarios it belongs to.
struct Operation {
  absl::string_view name;  // in scripts: lower case, no blanks
  uint64_t max_units = 0;  // of its range; 0: it has none
  Task<absl::Status> (*run)(Image& image, StampedGuest& guest, UnitRange range) = nullptr;
};

extern const Operation kWrite;            // up to four units
extern const Operation kWriteLarge;       // several clusters
extern const Operation kWriteCompressed;  // the whole clusters in it, discarded before
extern const Operation kWriteZeros;       // zeroes like any other bytes
extern const Operation kZeroKeep;         // zeroes by metadata, the space kept
extern const Operation kZeroUnmap;        // or given back
extern const Operation kDiscard;
extern const Operation kSnapshot;        // one more
extern const Operation kDeleteSnapshot;  // the oldest, if there is one
extern const Operation kVmState;         // written and read back, where that of the last time was
extern const Operation kRead;            // compared; under a small cache it drives tables out
extern const Operation kFlush;
// All of the disk changes: for scenarios with one worker.
extern const Operation kApplySnapshot;  // any of those there are
extern const Operation kEmpty;

// All there are; null for a name that none has.
std::span<const Operation* const> AllOperations();
const Operation* FindOperation(absl::string_view name);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_OPERATION_H_
