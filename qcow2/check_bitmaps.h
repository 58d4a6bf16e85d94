#ifndef RINGCOW_QCOW2_CHECK_BITMAPS_H_
#define RINGCOW_QCOW2_CHECK_BITMAPS_H_

#include "absl/status/status.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/check_references.h"
#include "qcow2/format/header.h"

namespace ringcow {

// Counts the clusters of the image's persistent dirty bitmaps: directory, tables and bitmap data.
// Without the autoclear bit that vouches for them they are nobody's. Stops the check when the
// directory is broken. The error is that of the disk.
Task<absl::Status> CountBitmaps(Disk& disk, const Header& header, ReferenceCounter& counter);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_BITMAPS_H_
