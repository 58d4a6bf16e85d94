#ifndef RINGCOW_QCOW2_READ_HEADER_H_
#define RINGCOW_QCOW2_READ_HEADER_H_

#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/format/header.h"

namespace ringcow {

// Reads and parses the first cluster of an image. Fails as ReadClusterBytes and ParseHeader do, in
// their words (which do not name the disk), or with the disk's error.
Task<absl::StatusOr<Header>> ReadHeader(Disk& disk, HeaderChecks checks = HeaderChecks::kForIo);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_READ_HEADER_H_
