#include "qcow2/refcounts.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "qcow2/corruption.h"
#include "qcow2/format/refcount_block.h"
#include "qcow2/format/refcount_table_entry.h"

namespace ringcow {

ClusterRun Refcounts::SliceClusters(ClusterIndex cluster) const {
  const uint64_t count = RefcountsIn(metadata_.refcount_block_cache.table_bytes(),
                                     metadata_.geometry.refcount_order());
  return {AlignDown(cluster, count), count};
}

absl::StatusOr<std::optional<HostOffset>> Refcounts::SliceOffset(ClusterIndex cluster) const {
  const Geometry& geometry = metadata_.geometry;
  const uint64_t table_index = geometry.RefcountTableIndex(cluster);
  if (table_index >= metadata_.refcount_table.entries()) return std::nullopt;
  const RefcountTableEntry entry =
      RefcountTableEntry::FromRaw(metadata_.refcount_table.Get(table_index));
  if (const absl::Status valid = entry.Validate(geometry, table_index); !valid.ok()) {
    // QEMU does not mind reserved bits.
    return entry.reserved_bits() != 0 ? Named(metadata_.disk, valid)
                                      : CorruptEntry(metadata_.disk, valid);
  }
  const std::optional<HostOffset> block = entry.block();
  if (!block.has_value()) return std::nullopt;
  RETURN_IF_ERROR(metadata_.CheckPlace(*block, geometry.cluster_bytes(), "refcount block"));
  const uint64_t bits = geometry.RefcountBlockIndex(cluster) << geometry.refcount_order();
  return *block + AlignDown(bits / 8, metadata_.refcount_block_cache.table_bytes());
}

Task<absl::StatusOr<Refcounts::Slice>> Refcounts::SliceOf(ClusterIndex cluster) {
  CO_ASSIGN_OR_RETURN(const std::optional<HostOffset> offset, SliceOffset(cluster));
  if (!offset.has_value()) {
    const uint64_t block_clusters = metadata_.geometry.refcount_block_entries();
    co_return Slice{{AlignDown(cluster, block_clusters), block_clusters}, TablePin()};
  }
  CO_ASSIGN_OR_RETURN(TablePin table, co_await metadata_.refcount_block_cache.Get(*offset));
  co_return Slice{SliceClusters(cluster), std::move(table)};
}

uint64_t Refcounts::Get(const Slice& slice, ClusterIndex cluster) const {
  if (!slice.has_block()) return 0;
  return GetRefcount(slice.table.bytes(), cluster - slice.clusters.first,
                     metadata_.geometry.refcount_order());
}

Task<absl::StatusOr<uint64_t>> Refcounts::Get(ClusterIndex cluster) {
  CO_ASSIGN_OR_RETURN(const Slice slice, co_await SliceOf(cluster));
  co_return Get(slice, cluster);
}

Task<absl::StatusOr<ClusterIndex>> Refcounts::UsedEnd() {
  ClusterIndex end =
      metadata_.geometry.FirstClusterOfRefcountBlock(metadata_.refcount_table.entries());
  while (end.value() > 0) {
    CO_ASSIGN_OR_RETURN(const Slice slice, co_await SliceOf(ClusterIndex(end.value() - 1)));
    if (!slice.has_block()) end = slice.clusters.first;
    while (end > slice.clusters.first) {
      const ClusterIndex last(end.value() - 1);
      if (Get(slice, last) > 0) co_return end;
      end = last;
    }
  }
  co_return end;
}

absl::Status Refcounts::CheckBlocksDiffer() const {
  const ResidentTable& table = metadata_.refcount_table;
  std::vector<HostOffset> blocks;
  for (uint64_t i = 0; i < table.entries(); ++i) {
    const auto block = RefcountTableEntry::FromRaw(table.Get(i)).block();
    if (block.has_value()) blocks.push_back(*block);
  }
  std::ranges::sort(blocks);
  const auto twice = std::ranges::adjacent_find(blocks);
  if (twice == blocks.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("'%s': two refcount table entries name the refcount block at host offset %#x",
                      metadata_.disk.name(), twice->value()));
}

Task<absl::Status> Refcounts::Set(ClusterRun run, uint64_t refcount) {
  const uint32_t order = metadata_.geometry.refcount_order();
  for (ClusterIndex cluster = run.first; cluster < run.end();) {
    CO_ASSIGN_OR_RETURN(const Slice slice, co_await SliceOf(cluster));
    if (!slice.has_block()) co_return NoBlock(cluster);
    CO_RETURN_IF_ERROR(metadata_.guard.BeforeWrite(slice.table.offset(), slice.table.bytes().size(),
                                                   OverlapGuard::Own::kRefcountBlock));
    const ClusterIndex end = std::min(run.end(), slice.clusters.end());
    const uint64_t from = cluster - slice.clusters.first;
    const uint64_t until = end - slice.clusters.first;
    for (uint64_t i = from; i < until; ++i) {
      SetRefcount(slice.table.bytes(), i, order, refcount);
    }
    const uint64_t first_byte = (from << order) / 8;
    const uint64_t last_byte = ((until << order) - 1) / 8;
    metadata_.refcount_block_cache.MarkDirty(slice.table, first_byte, last_byte - first_byte + 1);
    cluster = end;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Refcounts::Increment(ClusterIndex cluster) {
  CO_ASSIGN_OR_RETURN(const uint64_t refcount, co_await Get(cluster));
  if (refcount == metadata_.geometry.max_refcount()) {
    co_return absl::OutOfRangeError(absl::StrFormat(
        "'%s': the refcount of the cluster at host offset %#x cannot exceed %d with %d bits",
        metadata_.disk.name(), metadata_.geometry.OffsetOf(cluster).value(), refcount,
        metadata_.geometry.refcount_bits()));
  }
  co_return co_await Set({cluster, 1}, refcount + 1);
}

Task<absl::StatusOr<uint64_t>> Refcounts::Decrement(ClusterIndex cluster) {
  CO_ASSIGN_OR_RETURN(const uint64_t refcount, co_await Get(cluster));
  if (refcount == 0) {
    co_return absl::InvalidArgumentError(
        absl::StrFormat("'%s': the cluster at host offset %#x was in use with a refcount of 0",
                        metadata_.disk.name(), metadata_.geometry.OffsetOf(cluster).value()));
  }
  CO_RETURN_IF_ERROR(co_await Set({cluster, 1}, refcount - 1));
  co_return refcount - 1;
}

Task<absl::StatusOr<std::optional<ClusterIndex>>> Refcounts::FirstWithoutBlock(ClusterRun run) {
  const uint64_t block_clusters = metadata_.geometry.refcount_block_entries();
  for (ClusterIndex cluster = run.first; cluster < run.end();
       cluster = AlignDown(cluster, block_clusters) + block_clusters) {
    CO_ASSIGN_OR_RETURN(const std::optional<HostOffset> offset, SliceOffset(cluster));
    if (!offset.has_value()) co_return std::optional(cluster);
  }
  co_return std::optional<ClusterIndex>();
}

absl::Status Refcounts::NoBlock(ClusterIndex cluster) const {
  return absl::InvalidArgumentError(
      absl::StrFormat("'%s': the cluster at host offset %#x has no refcount block",
                      metadata_.disk.name(), metadata_.geometry.OffsetOf(cluster).value()));
}

Task<absl::Status> Refcounts::OrderUnsettled(Table& referrer, Table& before) {
  if (before.is_settled()) co_return absl::OkStatus();
  // A refcount table entry whose block is described by way of another entry nearby: one write
  // would do for both, but its sectors reach the disk one by one.
  if (&before == &referrer) co_return co_await metadata_.write_back.Flush();
  co_return co_await metadata_.write_back.SetDependency(referrer, before);
}

Task<absl::Status> Refcounts::OrderBefore(Table& referrer, ClusterRun run) {
  CO_RETURN_IF_ERROR(co_await OrderUnsettled(referrer, metadata_.header_table()));
  for (ClusterIndex cluster = run.first; cluster < run.end();
       cluster = SliceClusters(cluster).end()) {
    CO_ASSIGN_OR_RETURN(const std::optional<HostOffset> offset, SliceOffset(cluster));
    if (!offset.has_value()) co_return NoBlock(cluster);
    Table& block_entry =
        metadata_.refcount_table.TableOf(metadata_.geometry.RefcountTableIndex(cluster));
    CO_RETURN_IF_ERROR(co_await OrderUnsettled(referrer, block_entry));
    // A slice that is no longer in the cache left it durable.
    const TablePin slice = metadata_.refcount_block_cache.TryGet(*offset);
    if (slice) CO_RETURN_IF_ERROR(co_await OrderUnsettled(referrer, slice.table()));
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
