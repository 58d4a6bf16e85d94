#include "qcow2/allocator.h"

#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/corruption.h"
#include "qcow2/format/l2_entry.h"

namespace ringcow {

Allocator::Allocator(Metadata& metadata, Growth& growth, const AheadOptions& ahead)
    : metadata_(metadata),
      refcounts_(metadata),
      free_space_(metadata, refcounts_, growth, ahead),
      growth_(metadata, refcounts_, free_space_),
      shrink_(metadata, refcounts_, free_space_),
      one_at_a_time_(metadata.disk.loop()) {}

Task<absl::StatusOr<AllocatedRun>> Allocator::Allocate(uint64_t count) {
  const Mutex::Guard guard = co_await one_at_a_time_.Lock();
  co_return co_await TakeCounted(count);
}

bool Allocator::CanCountHeader() const {
  const ResidentTable& table = metadata_.refcount_table;
  return table.entries() > 0 && table.Get(0) != 0;
}

absl::Status Allocator::Refused(absl::string_view what, absl::Status status) const {
  if (!IsInHeader(status)) return status;
  // QEMU counts a cluster before it looks at what else is there, and would make the refcount block
  // that this needs in the next one.
  if (!CanCountHeader()) {
    const uint64_t cluster_bytes = metadata_.geometry.cluster_bytes();
    RETURN_IF_ERROR(metadata_.guard.BeforeWrite(HostOffset(cluster_bytes), cluster_bytes,
                                                OverlapGuard::Own::kNothing));
  }
  return WithAllocation(std::move(status), what);
}

Task<absl::StatusOr<AllocatedRun>> Allocator::AllocateData(uint64_t count, bool goes_on) {
  const Mutex::Guard guard = co_await one_at_a_time_.Lock();
  absl::StatusOr<AllocatedRun> run =
      co_await TakeCounted(count, goes_on ? std::optional(data_end_) : std::nullopt);
  if (run.ok()) {
    data_end_ = run->end();
  } else if (!CanCountHeader()) {
    // Guest data go on where some are, and then the block is all that could come to lie there.
    run = WithAllocation(run.status(), "refcount block");
  }
  co_return run;
}

Task<absl::StatusOr<AllocatedRun>> Allocator::TakeCounted(uint64_t count,
                                                          std::optional<ClusterIndex> begin) {
  metadata_.Announce(DebugEvent::kClusterAlloc);
  for (;;) {
    CO_ASSIGN_OR_RETURN(const AllocatedRun run, co_await free_space_.Take(count, begin));
    metadata_.Announce(DebugEvent::kRefblockAlloc);
    metadata_.Announce(DebugEvent::kRefblockLoad);
    if (run.is_counted) co_return run;
    absl::StatusOr<bool> is_counted = co_await CountOrAddBlock(run);
    if (is_counted.ok() && *is_counted) co_return run;
    // A new block may lie in what was found; the search goes on from the same place, as QEMU's.
    free_space_.ReturnUnused(run);
    CO_RETURN_IF_ERROR(is_counted.status());
  }
}

Task<absl::StatusOr<bool>> Allocator::CountOrAddBlock(ClusterRun run) {
  CO_ASSIGN_OR_RETURN(const std::optional<ClusterIndex> missing,
                      co_await refcounts_.FirstWithoutBlock(run));
  if (missing.has_value()) {
    CO_RETURN_IF_ERROR(co_await growth_.AddBlock(metadata_.geometry.RefcountTableIndex(*missing)));
    co_return false;
  }
  CO_RETURN_IF_ERROR(co_await refcounts_.Set(run, 1));
  co_return true;
}

Task<absl::StatusOr<HostOffset>> Allocator::AllocateBytes(uint64_t bytes) {
  const Geometry& geometry = metadata_.geometry;
  const Mutex::Guard guard = co_await one_at_a_time_.Lock();
  metadata_.Announce(DebugEvent::kClusterAllocBytes);
  CO_ASSIGN_OR_RETURN(const HostOffset packed_end, co_await PackedEnd());
  HostOffset begin = packed_end;
  std::optional<AllocatedRun> fresh;
  if (begin.value() == 0 || begin + bytes > AlignUp(begin, geometry.cluster_bytes())) {
    CO_ASSIGN_OR_RETURN(fresh, co_await TakeCounted(1));
    const HostOffset place = geometry.OffsetOf(fresh->first);
    if (begin.value() == 0 || place != AlignUp(begin, geometry.cluster_bytes())) begin = place;
  }
  absl::Status status;
  if (begin + bytes > L2Entry::MaxCompressedEnd(geometry)) {
    status = ErrnoStatus(EFBIG, absl::StrFormat("'%s': no entry can name compressed data at host "
                                                "offset %#x",
                                                metadata_.disk.name(), begin.value()));
  } else if (begin == packed_end) {
    status = co_await refcounts_.Increment(geometry.ClusterOf(begin));
  }
  if (status.ok()) {
    free_space_.SetPackedEnd(begin + bytes);
    co_return begin;
  }
  if (fresh.has_value()) {
    status.Update(co_await refcounts_.Set(*fresh, 0));
    free_space_.ReturnUnused(*fresh);
  }
  co_return status;
}

Task<absl::StatusOr<HostOffset>> Allocator::PackedEnd() {
  const HostOffset end = free_space_.packed_end();
  if (end.value() == 0) co_return end;
  CO_ASSIGN_OR_RETURN(const uint64_t refcount,
                      co_await refcounts_.Get(metadata_.geometry.ClusterOf(end)));
  co_return refcount < metadata_.geometry.max_refcount() ? end : HostOffset(0);
}

Task<void> Allocator::ReserveAhead() {
  const Mutex::Guard guard = co_await one_at_a_time_.Lock();
  if (may_reserve_) co_await free_space_.ReserveAhead();
}

Task<absl::Status> Allocator::GiveBackReserve() {
  const Mutex::Guard guard = co_await one_at_a_time_.Lock();
  may_reserve_ = false;
  metadata_.recorded_reserve.End();
  co_return co_await free_space_.reservation().GiveBack();
}

Task<absl::Status> Allocator::CheckBlocks() {
  const Mutex::Guard guard = co_await one_at_a_time_.Lock();
  co_return co_await shrink_.CheckBlocks();
}

Task<absl::Status> Allocator::GiveUpEmptyBlocks() {
  const Mutex::Guard guard = co_await one_at_a_time_.Lock();
  co_return co_await shrink_.GiveUpEmptyBlocks();
}

Task<void> Allocator::LeaveUnpacked(ClusterRun run) {
  const Mutex::Guard guard = co_await one_at_a_time_.Lock();
  free_space_.LeaveUnpacked(run);
}

Task<absl::StatusOr<AllocatedRun>> Allocator::AllocateBehind(ClusterIndex end, uint64_t count,
                                                             uint64_t spare) {
  const Mutex::Guard guard = co_await one_at_a_time_.Lock();
  CO_ASSIGN_OR_RETURN(const ClusterIndex first, co_await growth_.MakeRoom(end, count + spare));
  CO_ASSIGN_OR_RETURN(const AllocatedRun run, co_await free_space_.TakeAt({first, count}));
  CO_RETURN_IF_ERROR(co_await refcounts_.Set(run, 1));
  co_return run;
}

Task<absl::Status> Allocator::Free(ClusterRun run) {
  const Mutex::Guard guard = co_await one_at_a_time_.Lock();
  metadata_.Announce(DebugEvent::kClusterFree);
  CO_RETURN_IF_ERROR(co_await refcounts_.Set(run, 0));
  free_space_.Return(run);
  co_return absl::OkStatus();
}

Task<absl::Status> Allocator::RemoveReference(ClusterRun run, bool is_l2_table) {
  const Mutex::Guard guard = co_await one_at_a_time_.Lock();
  metadata_.Announce(DebugEvent::kClusterFree);
  for (ClusterIndex cluster = run.first; cluster < run.end(); ++cluster) {
    CO_ASSIGN_OR_RETURN(const uint64_t left, co_await refcounts_.Decrement(cluster));
    if (left > 0) continue;
    if (is_l2_table) {
      co_await metadata_.l2_cache.Drop(metadata_.geometry.OffsetOf(cluster),
                                       metadata_.geometry.cluster_bytes());
    }
    // A damaged image can refer to what is reserved.
    free_space_.reservation().Forget({cluster, 1});
    free_space_.Return({cluster, 1});
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
