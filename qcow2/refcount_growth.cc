#include "qcow2/refcount_growth.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/invariant.h"
#include "engine/status_macros.h"
#include "qcow2/corruption.h"
#include "qcow2/format/refcount_block.h"
#include "qcow2/format/refcount_table_entry.h"

namespace ringcow {

Task<absl::Status> RefcountGrowth::AddBlock(uint64_t table_index) {
  const Geometry& geometry = metadata_.geometry;
  const absl::StatusOr<AllocatedRun> taken = co_await free_space_.Take(1);
  if (!taken.ok()) co_return WithAllocation(taken.status(), "refcount block");
  const AllocatedRun run = *taken;
  const HostOffset block = geometry.OffsetOf(run.first);
  const uint64_t described_by = geometry.RefcountTableIndex(run.first);
  const bool describes_itself = described_by == table_index;
  if (!describes_itself) {
    // Its own refcount is in another block, which may have to be made first. That one comes to lie
    // in what it describes, or is described by one that exists, so this ends.
    CO_ASSIGN_OR_RETURN(const auto missing, co_await refcounts_.FirstWithoutBlock(run));
    if (missing.has_value()) CO_RETURN_IF_ERROR(co_await AddBlock(described_by));
    CO_RETURN_IF_ERROR(co_await refcounts_.Set(run, 1));
  }
  metadata_.Announce(DebugEvent::kRefblockAllocWrite);
  absl::Status status = co_await InitializeBlock(block, run.is_zero);
  if (status.ok() && describes_itself) status = co_await CountIn(block, run);
  if (status.ok()) status = co_await PutIntoTable(table_index, block, run);
  // Also where the header failed that names a new table: the block is in use.
  if (status.ok() || IsInTable(table_index, block)) co_return status;
  // Left in the cache, the block would be written later over whatever uses its cluster by then.
  co_await metadata_.refcount_block_cache.Drop(block, geometry.cluster_bytes());
  if (!describes_itself) status.Update(co_await refcounts_.Set(run, 0));
  co_return status;
}

Task<absl::Status> RefcountGrowth::InitializeBlock(HostOffset block, bool is_zero) {
  TableCache& cache = metadata_.refcount_block_cache;
  const auto on_disk = is_zero ? TableCache::OnDisk::kZeroes : TableCache::OnDisk::kUnknown;
  for (uint64_t at = 0; at < metadata_.geometry.cluster_bytes(); at += cache.table_bytes()) {
    const absl::StatusOr<TablePin> slice = co_await cache.GetEmpty(block + at, on_disk);
    CO_RETURN_IF_ERROR(slice.status());
  }
  co_return absl::OkStatus();
}

// Sets refcounts in a block that nothing leads to yet.
Task<absl::Status> RefcountGrowth::CountIn(HostOffset block, ClusterRun clusters) {
  const uint32_t order = metadata_.geometry.refcount_order();
  TableCache& cache = metadata_.refcount_block_cache;
  const uint64_t per_slice = RefcountsIn(cache.table_bytes(), order);
  for (ClusterIndex cluster = clusters.first; cluster < clusters.end(); ++cluster) {
    const uint64_t index = metadata_.geometry.RefcountBlockIndex(cluster);
    CO_ASSIGN_OR_RETURN(const TablePin slice,
                        co_await cache.Get(block + index / per_slice * cache.table_bytes()));
    SetRefcount(slice.bytes(), index % per_slice, order, 1);
    cache.MarkDirty(slice, ((index % per_slice) << order) / 8,
                    DivideRoundUp(metadata_.geometry.refcount_bits(), 8));
  }
  co_return absl::OkStatus();
}

bool RefcountGrowth::IsInTable(uint64_t table_index, HostOffset block) const {
  const ResidentTable& table = metadata_.refcount_table;
  return table_index < table.entries() &&
         table.Get(table_index) == RefcountTableEntry::Block(block).raw();
}

Task<absl::Status> RefcountGrowth::PutIntoTable(uint64_t table_index, HostOffset block,
                                                ClusterRun run) {
  ResidentTable& table = metadata_.refcount_table;
  if (table_index >= table.entries()) co_return co_await GrowTable(table_index, block);
  metadata_.Announce(DebugEvent::kRefblockAllocHookup);
  Table& entry = table.TableOf(table_index);
  if (metadata_.geometry.RefcountTableIndex(run.first) != table_index) {
    CO_RETURN_IF_ERROR(co_await refcounts_.OrderBefore(entry, run));
  }
  CO_RETURN_IF_ERROR(co_await OrderBehindBlock(entry, block));
  // A file that has just grown over the block must not lose it.
  metadata_.write_back.DependsOnFlush(entry);
  table.Set(table_index, RefcountTableEntry::Block(block).raw());
  co_return absl::OkStatus();
}

Task<absl::Status> RefcountGrowth::OrderBehindBlock(Table& referrer, HostOffset block) {
  TableCache& cache = metadata_.refcount_block_cache;
  for (uint64_t at = 0; at < metadata_.geometry.cluster_bytes(); at += cache.table_bytes()) {
    const TablePin slice = cache.TryGet(block + at);
    if (!slice || slice.table().is_settled()) continue;
    CO_RETURN_IF_ERROR(co_await metadata_.write_back.SetDependency(referrer, slice.table()));
  }
  co_return absl::OkStatus();
}

// Blocks and table describe themselves, too: more of them may need even more. Blocks that exist
// already count once more, as in QEMU.
uint64_t RefcountGrowth::BlocksFor(uint64_t clusters, Room room) const {
  const Geometry& geometry = metadata_.geometry;
  uint64_t blocks = 0;
  uint64_t table_clusters = 0;
  for (uint64_t described = 0;;) {
    const uint64_t all = clusters + blocks + table_clusters;
    if (all == described && room == Room::kExact) return blocks;
    if (all == described) {
      clusters += DivideRoundUp(table_clusters, 2);
      room = Room::kExact;
    }
    described = all;
    blocks = DivideRoundUp(clusters + blocks + table_clusters, geometry.refcount_block_entries());
    table_clusters = DivideRoundUp(blocks, geometry.refcount_table_entries_per_cluster());
  }
}

absl::StatusOr<RefcountGrowth::Area> RefcountGrowth::PlaceArea(ClusterIndex begin,
                                                               uint64_t clusters, Room room) const {
  const Geometry& geometry = metadata_.geometry;
  const uint64_t max_entries = geometry.max_refcount_table_entries();
  const uint64_t total = BlocksFor(begin.value() + clusters, room);
  if (total > max_entries) {
    return ErrnoStatus(EFBIG, absl::StrFormat("'%s': its refcount table cannot grow any more",
                                              metadata_.disk.name()));
  }
  uint64_t first_block = geometry.RefcountTableIndex(begin);
  const ResidentTable& table = metadata_.refcount_table;
  while (first_block < table.entries() && table.Get(first_block) != 0) ++first_block;

  const uint64_t blocks = total - std::min(total, first_block);
  const uint64_t entries = room == Room::kExact ? total : total + DivideRoundUp(total, 2);
  const uint64_t table_clusters =
      DivideRoundUp(std::min(entries, max_entries), geometry.refcount_table_entries_per_cluster());
  const Area area{{begin, blocks + table_clusters},
                  first_block,
                  blocks,
                  table_clusters * geometry.refcount_table_entries_per_cluster()};
  RINGCOW_INVARIANT(area.clusters.end() <= geometry.FirstClusterOfRefcountBlock(total),
                    "the blocks describe themselves and the table");
  return area;
}

ClusterRun RefcountGrowth::DescribedByOthers(const Area& area) const {
  const ClusterIndex end = std::min(
      area.clusters.end(), metadata_.geometry.FirstClusterOfRefcountBlock(area.first_block));
  return {area.clusters.first, end > area.clusters.first ? end - area.clusters.first : 0};
}

Task<absl::Status> RefcountGrowth::GrowTable(uint64_t table_index, HostOffset block) {
  const Geometry& geometry = metadata_.geometry;
  // What the old table still has in flight is easier finished than carried over; `block` becomes
  // durable with it.
  CO_RETURN_IF_ERROR(co_await metadata_.write_back.Flush());
  const uint64_t described_by = geometry.RefcountTableIndex(geometry.ClusterOf(block));
  const ClusterIndex begin =
      geometry.FirstClusterOfRefcountBlock(std::max(table_index, described_by) + 1);
  CO_ASSIGN_OR_RETURN(const Area area, PlaceArea(begin, 0, Room::kToGrow));
  co_return co_await MoveTable(area, TableEntry{table_index, block});
}

Task<absl::StatusOr<ClusterIndex>> RefcountGrowth::MakeRoom(ClusterIndex begin, uint64_t clusters) {
  CO_ASSIGN_OR_RETURN(const Area area, PlaceArea(begin, clusters, Room::kExact));
  CO_RETURN_IF_ERROR(co_await MoveTable(area, std::nullopt));
  co_return area.clusters.end();
}

Task<absl::Status> RefcountGrowth::MoveTable(Area area, std::optional<TableEntry> entry) {
  const Geometry& geometry = metadata_.geometry;
  metadata_.Announce(DebugEvent::kReftableGrow);
  CO_ASSIGN_OR_RETURN(const AllocatedRun run, co_await free_space_.TakeAt(area.clusters));

  metadata_.Announce(DebugEvent::kRefblockAllocWriteTable);
  absl::StatusOr<ResidentTable> table = co_await MakeTable(area);
  absl::Status status = table.status();
  if (status.ok()) {
    if (entry.has_value()) table->Set(entry->index, RefcountTableEntry::Block(entry->block).raw());
    metadata_.Announce(DebugEvent::kRefblockAllocWriteBlocks);
    status = co_await FillBlocks(area, run.is_zero);
  }
  // What fails of it, fails before anything is said to be there.
  if (status.ok()) status = co_await metadata_.write_back.Flush();
  if (status.ok()) co_return co_await SwitchTo(*std::move(table), area);
  // Left in the caches, the tables would be written later over whatever uses their clusters.
  table = status;
  const HostOffset begin = geometry.OffsetOf(area.clusters.first);
  const uint64_t length = geometry.OffsetOf(area.clusters.end()) - begin;
  co_await metadata_.refcount_table_cache.Drop(begin, length);
  co_await metadata_.refcount_block_cache.Drop(begin, length);
  status.Update(co_await refcounts_.Set(DescribedByOthers(area), 0));
  free_space_.Return(area.clusters);
  co_return status;
}

// The new table in the cache: the old entries, and the area's own blocks.
Task<absl::StatusOr<ResidentTable>> RefcountGrowth::MakeTable(const Area& area) {
  CO_ASSIGN_OR_RETURN(
      ResidentTable table,
      co_await ResidentTable::MakeEmpty(metadata_.refcount_table_cache,
                                        OffsetOfBlock(area, area.blocks), area.table_entries));
  for (uint64_t i = 0; i < metadata_.refcount_table.entries(); ++i) {
    if (const uint64_t entry = metadata_.refcount_table.Get(i); entry != 0) table.Set(i, entry);
  }
  for (uint64_t i = 0; i < area.blocks; ++i) {
    table.Set(area.first_block + i, RefcountTableEntry::Block(OffsetOfBlock(area, i)).raw());
  }
  co_return std::move(table);
}

Task<absl::Status> RefcountGrowth::FillBlocks(const Area& area, bool is_zero) {
  const Geometry& geometry = metadata_.geometry;
  CO_RETURN_IF_ERROR(co_await refcounts_.Set(DescribedByOthers(area), 1));
  for (uint64_t i = 0; i < area.blocks; ++i) {
    CO_RETURN_IF_ERROR(co_await InitializeBlock(OffsetOfBlock(area, i), is_zero));
    const ClusterIndex begin = geometry.FirstClusterOfRefcountBlock(area.first_block + i);
    const ClusterIndex first = std::max(area.clusters.first, begin);
    const ClusterIndex end =
        std::min(area.clusters.end(), begin + geometry.refcount_block_entries());
    if (first >= end) continue;
    CO_RETURN_IF_ERROR(co_await CountIn(OffsetOfBlock(area, i), {first, end - first}));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> RefcountGrowth::SwitchTo(ResidentTable table, const Area& area) {
  metadata_.Announce(DebugEvent::kRefblockAllocSwitchTable);
  const Geometry& geometry = metadata_.geometry;
  ResidentTable old = std::exchange(metadata_.refcount_table, std::move(table));
  const HostOffset old_begin = old.offset();
  const uint64_t old_bytes = old.end() - old.offset();
  old = ResidentTable();
  metadata_.header.refcount_table_offset = metadata_.refcount_table.offset();
  metadata_.header.refcount_table_clusters =
      static_cast<uint32_t>(area.table_entries / geometry.refcount_table_entries_per_cluster());
  metadata_.StoreHeader();

  // The old table is free once no header on the disk points to it. When this fails either of them
  // may be the disk's: the new one is in use, the next Flush tries again, and the old one is
  // leaked.
  CO_RETURN_IF_ERROR(co_await metadata_.write_back.Flush());
  // Its slices must leave the cache before somebody else has their clusters.
  co_await metadata_.refcount_table_cache.Drop(old_begin, old_bytes);
  const ClusterRun freed{geometry.ClusterOf(old_begin), geometry.ClustersFor(old_bytes)};
  // Where that fails it is leaked, which is no failure of who needed the new one.
  if ((co_await refcounts_.Set(freed, 0)).ok()) free_space_.Return(freed);
  co_return absl::OkStatus();
}

HostOffset RefcountGrowth::OffsetOfBlock(const Area& area, uint64_t i) const {
  return metadata_.geometry.OffsetOf(area.clusters.first + i);
}

}  // namespace ringcow
