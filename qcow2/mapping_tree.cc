#include "qcow2/mapping_tree.h"

#include <cerrno>
#include <optional>

#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/corruption.h"
#include "qcow2/l2_slot.h"

namespace ringcow {

Task<absl::Status> MappingTree::AddReferences(std::span<const L1Entry> l1) {
  Walk walk{Step::kAdd};
  absl::Status status = co_await Go(l1, walk);
  if (status.ok()) co_return status;
  Walk undo{Step::kRemove, walk.references};
  status.Update(co_await Go(l1, undo));
  co_return status;
}

Task<absl::Status> MappingTree::RemoveReferences(std::span<const L1Entry> l1) {
  Walk walk{Step::kRemove};
  CO_RETURN_IF_ERROR(co_await Go(l1, walk));
  for (const ClusterRun& run : walk.freed) {
    CO_RETURN_IF_ERROR(co_await pass_discard_.GiveBack(run, /*refcount=*/0));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> MappingTree::ClearCopied(std::span<const L1Entry> l1) {
  Walk walk{Step::kClearCopied};
  co_return co_await Go(l1, walk);
}

Task<absl::Status> MappingTree::RefreshCopied(std::span<const L1Entry> l1) {
  Walk walk{Step::kRefreshCopied};
  co_return co_await Go(l1, walk);
}

Task<absl::Status> MappingTree::Go(std::span<const L1Entry> l1, Walk& walk) {
  const Geometry& geometry = metadata_.geometry;
  for (uint64_t i = 0; i < l1.size() && !walk.is_done(); ++i) {
    CO_RETURN_IF_ERROR(Named(metadata_.disk, l1[i].Validate(geometry, i)));
    const std::optional<HostOffset> l2_table = l1[i].l2_table();
    if (!l2_table.has_value()) continue;
    CO_RETURN_IF_ERROR(metadata_.CheckPlace(*l2_table, geometry.cluster_bytes(), "L2 table"));
    CO_RETURN_IF_ERROR(co_await GoThroughL2Table(*l2_table, walk));
    // Last, so that the table is there to be read.
    CO_RETURN_IF_ERROR(co_await PassClusters({geometry.ClusterOf(*l2_table), 1}, true, walk));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> MappingTree::GoThroughL2Table(HostOffset l2_table, Walk& walk) {
  TableCache& cache = metadata_.l2_cache;
  const uint64_t per_slice = cache.table_bytes() / metadata_.geometry.l2_entry_bytes();
  for (uint64_t at = 0; at < metadata_.geometry.cluster_bytes(); at += cache.table_bytes()) {
    CO_ASSIGN_OR_RETURN(const TablePin slice, co_await cache.Get(l2_table + at));
    for (uint64_t i = 0; i < per_slice && !walk.is_done(); ++i) {
      CO_RETURN_IF_ERROR(co_await PassEntry(slice, i, walk));
    }
  }
  co_return absl::OkStatus();
}

Task<absl::Status> MappingTree::PassEntry(const TablePin& slice, uint64_t slot, Walk& walk) {
  const absl::StatusOr<ExtendedL2Entry> entry = ValidL2Slot(metadata_, slice, slot);
  return entry.ok() ? PassValidEntry(slice, slot, *entry, walk)
                    : CannotPass(slice, slot, walk.step, entry.status());
}

Task<absl::Status> MappingTree::PassValidEntry(const TablePin& slice, uint64_t slot,
                                               ExtendedL2Entry entry, Walk& walk) {
  const Geometry& geometry = metadata_.geometry;
  if (walk.step == Step::kAdd || walk.step == Step::kRemove) {
    co_return co_await PassClusters(ClustersOf(geometry, entry.entry()), false, walk);
  }
  const std::optional<HostOffset> host = entry.host_offset();
  if (!host.has_value()) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const bool copied, co_await CopiedFor(*host, walk.step));
  if (copied == entry.copied()) co_return absl::OkStatus();
  StoreL2Slot(geometry, slice.bytes(), slot, entry.WithCopied(copied));
  metadata_.l2_cache.MarkDirty(slice, slot * geometry.l2_entry_bytes(), geometry.l2_entry_bytes());
  co_return absl::OkStatus();
}

Task<absl::Status> MappingTree::CannotPass(const TablePin& slice, uint64_t slot, Step step,
                                           absl::Status why) {
  if (step != Step::kAdd) co_return why;
  const Geometry& geometry = metadata_.geometry;
  const std::optional<HostOffset> host = LoadL2Slot(metadata_, slice.bytes(), slot).host_offset();
  if (!host.has_value() || CorruptionOf(why).has_value()) co_return why;
  const ClusterIndex cluster = geometry.ClusterOf(*host);
  CO_ASSIGN_OR_RETURN(const std::optional<ClusterIndex> missing,
                      co_await allocator_.refcounts().FirstWithoutBlock({cluster, 1}));
  if (!missing.has_value()) co_return why;
  const bool is_too_far =
      geometry.RefcountTableIndex(cluster) >= geometry.max_refcount_table_entries();
  co_return ErrnoStatus(is_too_far ? EFBIG : EAGAIN, why.message());
}

Task<absl::StatusOr<bool>> MappingTree::CopiedFor(HostOffset cluster, Step step) {
  if (step == Step::kClearCopied) co_return false;
  CO_ASSIGN_OR_RETURN(const uint64_t refcount,
                      co_await allocator_.refcounts().Get(metadata_.geometry.ClusterOf(cluster)));
  co_return refcount == 1;
}

Task<absl::Status> MappingTree::PassClusters(ClusterRun run, bool is_l2_table, Walk& walk) {
  for (; run.count > 0 && !walk.is_done(); ++run.first, --run.count) {
    if (walk.step == Step::kAdd) {
      CO_RETURN_IF_ERROR(co_await allocator_.refcounts().Increment(run.first));
    } else if (walk.step == Step::kRemove) {
      CO_RETURN_IF_ERROR(co_await RemoveReference(run.first, is_l2_table, walk));
    }
    ++walk.references;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> MappingTree::RemoveReference(ClusterIndex cluster, bool is_l2_table,
                                                Walk& walk) {
  CO_RETURN_IF_ERROR(co_await allocator_.RemoveReference({cluster, 1}, is_l2_table));
  if (!passes_discards_) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const uint64_t left, co_await allocator_.refcounts().Get(cluster));
  if (left > 0) co_return absl::OkStatus();
  if (walk.freed.empty() || walk.freed.back().end() != cluster) walk.freed.push_back({cluster, 0});
  ++walk.freed.back().count;
  co_return absl::OkStatus();
}

}  // namespace ringcow
