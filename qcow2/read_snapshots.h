#ifndef RINGCOW_QCOW2_READ_SNAPSHOTS_H_
#define RINGCOW_QCOW2_READ_SNAPSHOTS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/format/header.h"
#include "qcow2/format/snapshot_table.h"

namespace ringcow {

// The snapshot table that `header`, a parsed one, names; what of it is behind the end of the file
// reads as zeroes. Fails as ParseSnapshotTable does, or with the disk's error.
Task<absl::StatusOr<std::vector<Snapshot>>> ReadSnapshots(Disk& disk, const Header& header);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_READ_SNAPSHOTS_H_
