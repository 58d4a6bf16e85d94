#ifndef RINGCOW_QCOW2_CHECK_SNAPSHOTS_H_
#define RINGCOW_QCOW2_CHECK_SNAPSHOTS_H_

#include <optional>

#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/check_findings.h"
#include "qcow2/check_ranges.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/snapshot_table.h"

namespace ringcow {

// Whether the header's words about the snapshot table fit a file. Stops the check if not.
bool CheckSnapshotTablePlace(const Header& header, Findings& findings);

// Reads the image's snapshot table, which has such a place. Fails as ParseSnapshotTable does, or
// with the disk's error, which has an errno.
Task<absl::StatusOr<SnapshotTable>> ReadSnapshotTable(Disk& disk, const Header& header,
                                                      SnapshotTableUse use);

// Whether version 3 demands more of it.
inline bool IsIncomplete(const Snapshot& snapshot) {
  return snapshot.extra_data.size() < kMinSnapshotExtraBytesV3;
}

// Reads it and reports what is wrong in it; stops the check when it cannot be one. The error is
// that of the disk.
Task<absl::StatusOr<SnapshotTable>> CheckSnapshotTable(Disk& disk, const Header& header,
                                                       Findings& findings);

// Where the snapshot's L1 table is; nothing when it is at an impossible place or too large.
std::optional<WeightedRange> SnapshotL1Table(const Snapshot& snapshot, const Geometry& geometry);

// Reports the snapshots that have no such place, and those that should not be there at all.
void ReportBadSnapshots(const SnapshotTable& table, const Geometry& geometry, bool external_data,
                        Findings& findings);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_SNAPSHOTS_H_
