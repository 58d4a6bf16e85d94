#include "qcow2/snapshot_zeroes.h"

#include <cstddef>
#include <set>

#include "engine/status_macros.h"
#include "engine/zeroes.h"
#include "qcow2/l2_slot.h"

namespace ringcow {
namespace {

bool IsZeroCluster(ExtendedL2Entry entry) {
  return entry.entry().kind() != L2Entry::Kind::kCompressed &&
         entry.bitmap() == SubclusterBitmap::AllZero();
}

}  // namespace

Task<absl::Status> SnapshotZeroes::Expand(std::function<void(uint64_t)> on_progress) {
  std::set<HostOffset> expanded;
  uint64_t done = 0;
  for (size_t i = 0; i < snapshots_.all().size(); ++i) {
    CO_ASSIGN_OR_RETURN(const std::vector<L1Entry> l1, co_await snapshots_.ReadL1(i));
    for (const L1Entry& entry : l1) {
      const std::optional<HostOffset> table = entry.l2_table();
      if (table.has_value() && expanded.insert(*table).second) {
        CO_RETURN_IF_ERROR(co_await ExpandIn(*table));
      }
      ++done;
      if (on_progress) on_progress(done);
    }
  }
  co_return absl::OkStatus();
}

Task<absl::Status> SnapshotZeroes::ExpandIn(HostOffset l2_table) {
  const Geometry& geometry = metadata_.geometry;
  CO_RETURN_IF_ERROR(metadata_.CheckPlace(l2_table, geometry.cluster_bytes(), "L2 table"));
  // What refers to the table refers to each of its clusters.
  CO_ASSIGN_OR_RETURN(const uint64_t references,
                      co_await allocator_.refcounts().Get(geometry.ClusterOf(l2_table)));
  std::vector<Change> changes;
  absl::Status status = co_await Prepare(l2_table, references, changes);
  if (status.ok()) status = co_await metadata_.write_back.Flush();
  if (!status.ok()) {
    for (const Change& change : changes) {
      if (change.taken.has_value()) status.Update(co_await allocator_.Free(*change.taken));
    }
    co_return status;
  }
  CO_RETURN_IF_ERROR(co_await CarryOut(changes));
  for (const Change& change : changes) {
    for (uint64_t i = 0; change.given_up.has_value() && i < references; ++i) {
      CO_RETURN_IF_ERROR(
          co_await allocator_.RemoveReference(*change.given_up, /*is_l2_table=*/false));
    }
  }
  co_return absl::OkStatus();
}

Task<absl::Status> SnapshotZeroes::Prepare(HostOffset l2_table, uint64_t references,
                                           std::vector<Change>& changes) {
  const Geometry& geometry = metadata_.geometry;
  TableCache& cache = metadata_.l2_cache;
  const uint64_t slots = cache.table_bytes() / geometry.l2_entry_bytes();
  for (uint64_t at = 0; at < geometry.cluster_bytes(); at += cache.table_bytes()) {
    for (uint64_t slot = 0; slot < slots; ++slot) {
      CO_ASSIGN_OR_RETURN(const TablePin slice, co_await cache.Get(l2_table + at));
      CO_ASSIGN_OR_RETURN(const ExtendedL2Entry entry, ValidL2Slot(metadata_, slice, slot));
      const std::optional<HostOffset> host = entry.host_offset();
      if (!IsZeroCluster(entry) || (!has_backing_ && !host.has_value())) continue;
      Change change{.slice = l2_table + at, .slot = slot};
      if (host.has_value()) change.given_up = ClusterRun{geometry.ClusterOf(*host), 1};
      if (has_backing_) {
        CO_ASSIGN_OR_RETURN(change.taken, co_await TakeZeroes(references));
        change.next =
            ExtendedL2Entry::InCluster(geometry.OffsetOf(change.taken->first), /*copied=*/false,
                                       SubclusterBitmap::AllAllocated());
      }
      changes.push_back(change);
    }
  }
  co_return absl::OkStatus();
}

Task<absl::StatusOr<ClusterRun>> SnapshotZeroes::TakeZeroes(uint64_t references) {
  const Geometry& geometry = metadata_.geometry;
  CO_ASSIGN_OR_RETURN(const AllocatedRun run, co_await allocator_.Allocate(1));
  absl::Status status;
  if (!run.is_zero) {
    status =
        co_await ZeroOnDisk(metadata_.disk, geometry.OffsetOf(run.first), geometry.cluster_bytes());
  }
  if (status.ok()) status = co_await allocator_.refcounts().Set(run, references);
  if (status.ok()) co_return run;
  status.Update(co_await allocator_.Free(run));
  co_return status;
}

Task<absl::Status> SnapshotZeroes::CarryOut(const std::vector<Change>& changes) {
  const Geometry& geometry = metadata_.geometry;
  for (const Change& change : changes) {
    CO_ASSIGN_OR_RETURN(const TablePin slice, co_await metadata_.l2_cache.Get(change.slice));
    StoreL2Slot(geometry, slice.bytes(), change.slot, change.next);
    metadata_.l2_cache.MarkDirty(slice, change.slot * geometry.l2_entry_bytes(),
                                 geometry.l2_entry_bytes());
  }
  co_return co_await metadata_.write_back.Flush();
}

}  // namespace ringcow
