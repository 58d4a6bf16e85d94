#ifndef RINGCOW_QCOW2_REPAIR_REFCOUNTS_H_
#define RINGCOW_QCOW2_REPAIR_REFCOUNTS_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/task.h"
#include "qcow2/check_refcounts.h"
#include "qcow2/check_references.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/units.h"

namespace ringcow {

// Makes each refcount on disk, where there is a block for it, what the counter has: first all that
// become higher, durably, then those that become lower.
Task<absl::Status> WriteRefcounts(Disk& disk, const StoredRefcounts& refcounts,
                                  ReferenceCounter& counter);

// Sets the refcounts of `count` clusters from `first` on, where there is a block for them, durably.
Task<absl::Status> SetRefcounts(Disk& disk, const StoredRefcounts& refcounts,
                                const Geometry& geometry, ClusterIndex first, uint64_t count,
                                uint64_t refcount);

// Finds `clusters` neighbouring clusters without references, the first such behind `from`, and
// counts a reference to each. ENOSPC when there are none; that is also so when they would have to
// be behind the end of the file, and an entry points to there that would then be valid.
absl::StatusOr<ClusterIndex> TakeUnreferenced(ReferenceCounter& counter, uint64_t clusters,
                                              ClusterIndex from = ClusterIndex(0));

// How far something has come that may turn out to be longer than it seemed.
using RefcountProgress = std::function<void(uint64_t done, uint64_t all)>;

struct RefcountTablePlace {
  HostOffset offset;
  uint32_t clusters = 0;
};

// Writes a new refcount table and new blocks, durably, to clusters without references, and counts
// a reference to each. They hold what the counter then has; the old ones are not touched. ENOSPC
// when there is no room for them, EFBIG when the table would be larger than the format allows.
// Progress is told in passes over the refcounts: some to find places, until none is missing, and
// one to write.
Task<absl::StatusOr<RefcountTablePlace>> BuildRefcounts(Disk& disk, ReferenceCounter& counter,
                                                        RefcountProgress progress = nullptr);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REPAIR_REFCOUNTS_H_
