#include "qcow2/repair_refcounts.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <span>

#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/limits.h"
#include "qcow2/format/refcount_block.h"

namespace ringcow {
namespace {

enum class Direction : bool { kHigher, kLower };

// Changes the refcounts in `block`, the first of them that of `first`. Whether there were any.
bool Change(Direction direction, ReferenceCounter& counter, ClusterIndex first,
            std::span<std::byte> block) {
  const Geometry& geometry = counter.geometry();
  const uint32_t order = geometry.refcount_order();
  const uint64_t end =
      std::min(geometry.refcount_block_entries(), counter.clusters() - first.value());
  bool changed = false;
  for (uint64_t i = 0; i < end; ++i) {
    const uint64_t stored = GetRefcount(block, i, order);
    const uint64_t counted = counter.counts().Get(first + i);
    if (direction == Direction::kHigher ? counted <= stored : counted >= stored) continue;
    SetRefcount(block, i, order, counted);
    changed = true;
  }
  return changed;
}

Task<absl::Status> ChangeAll(Direction direction, Disk& disk, const StoredRefcounts& refcounts,
                             ReferenceCounter& counter) {
  const Geometry& geometry = counter.geometry();
  AlignedBuffer block(geometry.cluster_bytes());
  const uint64_t end = DivideRoundUp(counter.clusters(), geometry.refcount_block_entries());
  for (uint64_t i = 0; i < end; ++i) {
    const std::optional<HostOffset> offset = refcounts.ReadableBlockAt(i);
    if (!offset) continue;
    CO_RETURN_IF_ERROR(co_await disk.Read(*offset, block.span(), Content::kRefcountBlock));
    // A torn write changes some of them: each is within a sector.
    if (Change(direction, counter, geometry.FirstClusterOfRefcountBlock(i), block.span())) {
      CO_RETURN_IF_ERROR(co_await disk.Write(*offset, block.span(), Content::kRefcountBlock));
    }
  }
  co_return co_await disk.Fdatasync();
}

// Finds places for a new refcount table and blocks, which have refcounts themselves.
class Layout {
 public:
  explicit Layout(ReferenceCounter& counter) : counter_(counter), geometry_(counter.geometry()) {}

  absl::Status Find(const RefcountProgress& progress);

  uint64_t passes() const { return passes_; }
  const std::map<uint64_t, ClusterIndex>& blocks() const { return blocks_; }
  ClusterIndex table() const { return table_; }
  uint64_t table_clusters() const { return table_clusters_; }

 private:
  // Blocks for all clusters that have references by now.
  absl::Status PlaceBlocks();
  absl::StatusOr<ClusterIndex> PlaceBlock(uint64_t index);
  // The table for these blocks.
  absl::Status PlaceTable();

  ReferenceCounter& counter_;
  const Geometry geometry_;
  std::map<uint64_t, ClusterIndex> blocks_;  // by index of the refcount table
  ClusterIndex first_free_;                  // behind the last block
  ClusterIndex first_free_anywhere_;         // behind the last one that was not placed there
  ClusterIndex table_;
  uint64_t table_clusters_ = 0;
  uint64_t passes_ = 0;
};

absl::Status Layout::Find(const RefcountProgress& progress) {
  for (bool is_complete = false; !is_complete; ++passes_) {
    const uint64_t all = std::max<uint64_t>(passes_ + 2, 3);
    if (progress) progress(passes_, all);
    const size_t blocks_before = blocks_.size();
    RETURN_IF_ERROR(PlaceBlocks());
    RETURN_IF_ERROR(PlaceTable());
    is_complete = blocks_.size() == blocks_before;
    if (progress) progress(passes_ + 1, all);
  }
  return absl::OkStatus();
}

absl::Status Layout::PlaceTable() {
  const uint64_t entries = blocks_.rbegin()->first + 1;
  if (entries > geometry_.max_refcount_table_entries()) {
    return ErrnoStatus(EFBIG, "The refcount table would be too large");
  }
  const uint64_t needed = DivideRoundUp(entries, geometry_.refcount_table_entries_per_cluster());
  if (table_clusters_ >= needed) return absl::OkStatus();
  // It may need blocks of its own that make it larger.
  for (uint64_t i = 0; i < table_clusters_; ++i) counter_.counts().Set(table_ + i, 0);
  ASSIGN_OR_RETURN(table_, TakeUnreferenced(counter_, needed));
  table_clusters_ = needed;
  return absl::OkStatus();
}

// Not before the clusters whose refcounts it has, where the file has room: that leaves the first
// ones to the table. A block device cannot become longer, nor can a file on a full disk.
absl::StatusOr<ClusterIndex> Layout::PlaceBlock(uint64_t index) {
  first_free_ = std::max(first_free_, geometry_.FirstClusterOfRefcountBlock(index));
  absl::StatusOr<ClusterIndex> block = TakeUnreferenced(counter_, 1, first_free_);
  if (block.ok() && block->value() < counter_.clusters()) {
    first_free_ = *block + 1;
    return block;
  }
  if (block.ok()) counter_.counts().Set(*block, 0);
  block = TakeUnreferenced(counter_, 1, first_free_anywhere_);
  if (block.ok()) first_free_anywhere_ = *block + 1;
  return block;
}

absl::Status Layout::PlaceBlocks() {
  std::optional<ClusterIndex> cluster = counter_.counts().NextCounted(ClusterIndex(0));
  while (cluster) {
    const uint64_t index = geometry_.RefcountTableIndex(*cluster);
    if (blocks_.contains(index)) {
      cluster = counter_.counts().NextCounted(geometry_.FirstClusterOfRefcountBlock(index + 1));
      continue;
    }
    ASSIGN_OR_RETURN(const ClusterIndex block, PlaceBlock(index));
    blocks_[index] = block;
    // It may be before this one, where there was no reference.
    cluster = std::min(*cluster, block);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ClusterIndex> TakeUnreferenced(ReferenceCounter& counter, uint64_t clusters,
                                              ClusterIndex from) {
  const uint64_t limit = counter.found_beyond_file()
                             ? counter.clusters()
                             : counter.geometry().ClusterOf(HostOffset(kMaxFileOffset)).value();
  ReferenceCounts& counts = counter.counts();
  ClusterIndex begin = from;
  std::optional<ClusterIndex> next = counts.NextCounted(begin);
  while (next && next->value() - begin.value() < clusters) {
    begin = *next + 1;
    next = counts.NextCounted(begin);
  }
  if (begin.value() + clusters > limit) {
    return ErrnoStatus(ENOSPC, "No room in the file");
  }
  for (uint64_t i = 0; i < clusters; ++i) counts.Add(begin + i, 1);
  return begin;
}

Task<absl::Status> SetRefcounts(Disk& disk, const StoredRefcounts& refcounts,
                                const Geometry& geometry, ClusterIndex first, uint64_t count,
                                uint64_t refcount) {
  AlignedBuffer block(geometry.cluster_bytes());
  const uint64_t last_block = geometry.RefcountTableIndex(first + (count - 1));
  for (uint64_t i = geometry.RefcountTableIndex(first); i <= last_block; ++i) {
    const std::optional<HostOffset> offset = refcounts.ReadableBlockAt(i);
    if (!offset) continue;
    CO_RETURN_IF_ERROR(co_await disk.Read(*offset, block.span(), Content::kRefcountBlock));
    const ClusterIndex begin = std::max(first, geometry.FirstClusterOfRefcountBlock(i));
    const ClusterIndex end = std::min(first + count, geometry.FirstClusterOfRefcountBlock(i + 1));
    for (ClusterIndex cluster = begin; cluster < end; ++cluster) {
      SetRefcount(block.span(), geometry.RefcountBlockIndex(cluster), geometry.refcount_order(),
                  refcount);
    }
    CO_RETURN_IF_ERROR(co_await disk.Write(*offset, block.span(), Content::kRefcountBlock));
  }
  co_return co_await disk.Fdatasync();
}

Task<absl::Status> WriteRefcounts(Disk& disk, const StoredRefcounts& refcounts,
                                  ReferenceCounter& counter) {
  CO_RETURN_IF_ERROR(co_await ChangeAll(Direction::kHigher, disk, refcounts, counter));
  co_return co_await ChangeAll(Direction::kLower, disk, refcounts, counter);
}

Task<absl::StatusOr<RefcountTablePlace>> BuildRefcounts(Disk& disk, ReferenceCounter& counter,
                                                        RefcountProgress progress) {
  const Geometry& geometry = counter.geometry();
  Layout layout(counter);
  CO_RETURN_IF_ERROR(layout.Find(progress));

  AlignedBuffer table(layout.table_clusters() * geometry.cluster_bytes());
  std::ranges::fill(table.span(), std::byte{0});
  AlignedBuffer block(geometry.cluster_bytes());
  uint64_t blocks_to_come = layout.blocks().size();
  const uint64_t all = (layout.passes() + 1) * blocks_to_come;
  for (const auto& [index, place] : layout.blocks()) {
    std::ranges::fill(block.span(), std::byte{0});
    const ClusterIndex first = geometry.FirstClusterOfRefcountBlock(index);
    for (uint64_t i = 0; i < geometry.refcount_block_entries(); ++i) {
      SetRefcount(block.span(), i, geometry.refcount_order(), counter.counts().Get(first + i));
    }
    StoreBe64At(table.span(), index, geometry.OffsetOf(place).value());
    CO_RETURN_IF_ERROR(
        co_await disk.Write(geometry.OffsetOf(place), block.span(), Content::kRefcountBlock));
    if (progress) progress(all - --blocks_to_come, all);
  }
  const HostOffset offset = geometry.OffsetOf(layout.table());
  CO_RETURN_IF_ERROR(co_await disk.Write(offset, table.span(), Content::kRefcountTable));
  CO_RETURN_IF_ERROR(co_await disk.Fdatasync());
  co_return RefcountTablePlace{offset, static_cast<uint32_t>(layout.table_clusters())};
}

}  // namespace ringcow
