#ifndef RINGCOW_QCOW2_OPEN_H_
#define RINGCOW_QCOW2_OPEN_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/snapshot_table.h"
#include "qcow2/metadata.h"

namespace ringcow {

struct CheckedHeader {
  Header header;
  Geometry geometry;
};

// Reads and validates the header, and refuses what this build cannot do I/O on: see Image::Open.
// Repairs an image with the dirty bit first, when it is to be written.
Task<absl::StatusOr<CheckedHeader>> ReadAndCheckHeader(Disk& disk, bool read_only);

// Makes `read` name the tables of a snapshot as the active ones: whoever opens the image by it sees
// the disk as it was. NotFound when there is no such snapshot, or the disk's own error.
Task<absl::Status> GoToSnapshot(Disk& disk, const SnapshotChoice& choice, CheckedHeader& read);

// Clears, durably, the autoclear bits whose data this build does not keep up to date, as the
// specification asks of whoever opens an image for writing and before it writes anything else.
Task<absl::Status> ClearAutoclearFeatures(Metadata& metadata);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_OPEN_H_
