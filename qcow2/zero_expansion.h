#ifndef RINGCOW_QCOW2_ZERO_EXPANSION_H_
#define RINGCOW_QCOW2_ZERO_EXPANSION_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "qcow2/image.h"

namespace ringcow {

// Version 2 cannot say that a cluster reads as zeroes. Before an image becomes one of version 2,
// its zero clusters become zero bytes where a backing file would show instead, and clusters that it
// does not have where none would. The guest reads the same at every instant.

// Those that the guest sees, in `image`, which is open for writing, and is not flushed. (For those
// of snapshots there is Image::ExpandSnapshotZeroes.) Progress is told in L2 tables.
Task<absl::Status> ExpandZeroClusters(Image& image,
                                      std::function<void(uint64_t done, uint64_t all)> progress);

// The rest, in the image on `disk`, which is closed: entries of no cluster lose their zero flag,
// those of snapshots too, durably. For images without a backing file.
Task<absl::Status> ForgetPlainZeroes(Disk& disk);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_ZERO_EXPANSION_H_
