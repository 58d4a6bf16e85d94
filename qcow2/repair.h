#ifndef RINGCOW_QCOW2_REPAIR_H_
#define RINGCOW_QCOW2_REPAIR_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/check.h"

namespace ringcow {

enum class RepairScope : uint8_t {
  kLeaks,  // refcounts that are too high; COPIED flags only when nothing else is wrong
  kAll,    // and refcounts that are too low, lost refcount structures, COPIED flags, snapshot
           // tables, and entries that read as zeroes in a place where no cluster can be
};

// Checks the image and puts right what qemu-img check -r does, in its words; the dirty and corrupt
// bits go when nothing but leaks is left. Other wrong entries and bitmaps stay as they are, and are
// in the counts; so does what is wrong in a table whose place something else claims too. New
// structures need room: when an entry points beyond the end of the file, only that within the file.
//
// The disk must be open for writing and used by nobody else. Nothing that a guest reads changes,
// and a power cut at any time leaves the image no worse than it was: refcounts are raised durably
// before any is lowered, flags follow refcounts, and new structures are durable before the header
// names them, in one sector. Errors as CheckImage; those of the disk stop the repair (stopped_by).
Task<absl::StatusOr<CheckResult>> RepairImage(Disk& disk, RepairScope scope, CheckOptions options);

// Makes an image that has the dirty bit fit to be written: FailedPrecondition when a repair of all
// does not leave it clean.
Task<absl::Status> RepairDirtyImage(Disk& disk);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REPAIR_H_
