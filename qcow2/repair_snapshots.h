#ifndef RINGCOW_QCOW2_REPAIR_SNAPSHOTS_H_
#define RINGCOW_QCOW2_REPAIR_SNAPSHOTS_H_

#include "absl/status/status.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/check_findings.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"

namespace ringcow {

// Puts right what makes a snapshot table unreadable: leaves out snapshots that are more than the
// format allows, and extra data beyond what it allows, and completes entries that lack what version
// 3 demands. The new table is durable, with refcounts, before the header names it (`header` too,
// then), and the old one is given up after that. Snapshots that are left out are lost for good, and
// what only they referred to is leaked.
//
// To be done before references are counted. Leaves a table as it is whose place cannot be one, or
// when the check of something else has to stop.
Task<absl::Status> RepairSnapshotTable(Disk& disk, Header& header, const Geometry& geometry,
                                       Findings& findings);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REPAIR_SNAPSHOTS_H_
