#ifndef RINGCOW_QCOW2_ALLOCATOR_H_
#define RINGCOW_QCOW2_ALLOCATOR_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/mutex.h"
#include "engine/task.h"
#include "qcow2/free_space.h"
#include "qcow2/growth.h"
#include "qcow2/metadata.h"
#include "qcow2/refcount_growth.h"
#include "qcow2/refcount_shrink.h"
#include "qcow2/refcounts.h"

namespace ringcow {

// Gives out host clusters in the order in which QEMU would, but for a request over several L2
// tables that finds gaps: what did not fit behind one of its parts comes after the others.
//
// Allocation is a change in memory: what refers to the clusters afterwards is ordered behind their
// refcounts by Refcounts::OrderBefore. Until then a crash forgets them, or leaks them.
class Allocator {
 public:
  Allocator(Metadata& metadata, Growth& growth, const AheadOptions& ahead);

  // `count` > 0 neighbouring clusters, with a refcount of one. ENOSPC when the disk cannot grow,
  // EFBIG beyond what the format can describe; then none is allocated.
  Task<absl::StatusOr<AllocatedRun>> Allocate(uint64_t count);

  // `status`, with which an allocation for `what` failed, as QEMU says it: where the header's
  // cluster counts as free.
  absl::Status Refused(absl::string_view what, absl::Status status) const;

  // Allocate for guest data. If it goes on with what data was allocated for last: right behind
  // that, where there is room for any, and then as many of them as there is room for.
  Task<absl::StatusOr<AllocatedRun>> AllocateData(uint64_t count, bool goes_on);

  // Allocates `count` neighbouring clusters behind `end`, from where on nothing is in use.
  // Before that it makes the refcount structures large enough for them and for `spare` more, so
  // that the run is not interrupted, nor what comes next: see RefcountGrowth::MakeRoom. For new
  // images.
  Task<absl::StatusOr<AllocatedRun>> AllocateBehind(ClusterIndex end, uint64_t count,
                                                    uint64_t spare);

  // To be called before a flush, as long as clusters are going to be allocated: see FreeSpace.
  Task<void> ReserveAhead();
  // Nothing is reserved any more, nor recorded, whoever flushes meanwhile, until ResumeReserving.
  // What this changes is written by the next flush.
  Task<absl::Status> GiveBackReserve();
  void ResumeReserving() { may_reserve_ = true; }

  // Room for `bytes` > 0 compressed bytes, at most a cluster: packed behind what was packed last
  // where that leaves room, as QEMU packs them, in one cluster or two neighbouring ones, each with
  // one reference more. Where refcounts cannot count it, in a new cluster. ENOSPC and EFBIG as
  // above. To be given back by RemoveReference on all clusters touched (ClustersOf).
  Task<absl::StatusOr<HostOffset>> AllocateBytes(uint64_t bytes);

  // From here on nothing is packed into clusters of `run` by AllocateBytes.
  Task<void> LeaveUnpacked(ClusterRun run);

  // Gives back clusters that no table on the disk refers to: none ever did, or the removal of the
  // last reference is durable.
  Task<absl::Status> Free(ClusterRun run);

  // One reference less to each cluster of `run`; the removal is durable. Those that have none left
  // are given back, with what the cache holds of them when they were L2 tables. InvalidArgument
  // for one that had none, which a damaged image can bring about: then it is left as it is.
  Task<absl::Status> RemoveReference(ClusterRun run, bool is_l2_table);

  // Before the image becomes smaller, and with nothing reserved: see RefcountShrink.
  Task<absl::Status> CheckBlocks();
  // After the image has become smaller, with no request under way and nothing reserved: gives up
  // refcount blocks that count nothing. What this changes is written by the next flush.
  Task<absl::Status> GiveUpEmptyBlocks();

  Refcounts& refcounts() { return refcounts_; }
  HostOffset taken_end() const { return free_space_.taken_end(); }

 private:
  // Whether there is a refcount block for the beginning of the file.
  bool CanCountHeader() const;
  // FreeSpace::Take, and then their refcounts are one. For who holds the lock.
  Task<absl::StatusOr<AllocatedRun>> TakeCounted(uint64_t count,
                                                 std::optional<ClusterIndex> begin = std::nullopt);
  // Where packing goes on, if the refcount there can be raised; else 0.
  Task<absl::StatusOr<HostOffset>> PackedEnd();
  // Gives every cluster of `run` a refcount of one; or, where a refcount block is missing, adds
  // that one only and says false.
  Task<absl::StatusOr<bool>> CountOrAddBlock(ClusterRun run);

  Metadata& metadata_;
  Refcounts refcounts_;
  FreeSpace free_space_;
  RefcountGrowth growth_;
  RefcountShrink shrink_;
  bool may_reserve_ = true;
  ClusterIndex data_end_;  // of the last AllocateData
  Mutex one_at_a_time_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_ALLOCATOR_H_
