#ifndef RINGCOW_QCOW2_REPAIR_SNAPSHOTS_H_
#define RINGCOW_QCOW2_REPAIR_SNAPSHOTS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/check_findings.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/snapshot_table.h"

namespace ringcow {

// A snapshot table as it is to be, but for its place.
struct MendedSnapshots {
  SnapshotTable table;
  uint64_t mended = 0;  // entries that are otherwise in the image: it has to be written anew
};

// Reads the table, leaves out snapshots that are more than the format allows, and extra data beyond
// what it allows, and completes entries that lack what version 3 demands. Snapshots that are left
// out are lost for good; those at the end are so at once, durably (`header` says so, too), and what
// only they referred to is leaked. Stops the check where there cannot be a table.
Task<absl::StatusOr<MendedSnapshots>> MendSnapshots(Disk& disk, Header& header, Findings& findings);

// Writes the table anew, if something in it was mended; refcounts have been repaired before. It is
// durable, with refcounts, before the header names it, and the old one is given up after that.
Task<absl::Status> RewriteSnapshots(Disk& disk, Header& header, const Geometry& geometry,
                                    const MendedSnapshots& snapshots, Findings& findings);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REPAIR_SNAPSHOTS_H_
