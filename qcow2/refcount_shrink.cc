#include "qcow2/refcount_shrink.h"

#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "qcow2/corruption.h"
#include "qcow2/format/refcount_table_entry.h"

namespace ringcow {

Task<absl::Status> RefcountShrink::CheckBlocks() {
  CO_RETURN_IF_ERROR(CheckAligned());
  CO_RETURN_IF_ERROR(refcounts_.CheckBlocksDiffer());
  ResidentTable& table = metadata_.refcount_table;
  absl::Status status;
  for (uint64_t i = 0; i < table.entries(); ++i) {
    const RefcountTableEntry entry = RefcountTableEntry::FromRaw(table.Get(i));
    const std::optional<HostOffset> block = entry.block();
    const bool is_outside = block.has_value() && *block >= metadata_.clusters_end;
    if (!is_outside || entry.reserved_bits() != 0) continue;
    const absl::Status counted = CheckCounted(*block);
    if (counted.ok()) continue;
    // A damaged header may call something else its refcount table.
    CO_RETURN_IF_ERROR(metadata_.guard.BeforeWrite(table.offset() + i * kTableEntryBytes,
                                                   kTableEntryBytes,
                                                   OverlapGuard::Own::kRefcountTable));
    table.Set(i, 0);
    status.Update(counted);
  }
  if (!status.ok()) CO_RETURN_IF_ERROR(co_await metadata_.write_back.Flush());
  co_return status;
}

absl::Status RefcountShrink::CheckAligned() const {
  const ResidentTable& table = metadata_.refcount_table;
  for (uint64_t i = 0; i < table.entries(); ++i) {
    const auto block = RefcountTableEntry::FromRaw(table.Get(i)).block().value_or(HostOffset(0));
    if (metadata_.geometry.IsClusterAligned(block)) continue;
    return CorruptEntry(
        metadata_.disk,
        absl::InvalidArgumentError(absl::StrFormat(
            "Cannot get entry from refcount block cache: Offset %#x is unaligned", block.value())));
  }
  return absl::OkStatus();
}

absl::Status RefcountShrink::CheckCounted(HostOffset block) const {
  const Geometry& geometry = metadata_.geometry;
  const ResidentTable& table = metadata_.refcount_table;
  const uint64_t index = geometry.RefcountTableIndex(geometry.ClusterOf(block));
  if (index < table.entries()) {
    const auto counting = RefcountTableEntry::FromRaw(table.Get(index)).block();
    if (counting.has_value() && *counting < metadata_.clusters_end) return absl::OkStatus();
  }
  return CorruptEntry(
      metadata_.disk,
      absl::InvalidArgumentError(absl::StrFormat(
          "Refblock at %#x is not covered by the refcount structures", block.value())));
}

Task<absl::Status> RefcountShrink::GiveUpEmptyBlocks() {
  // A damaged table: where two entries share a block, one would take it from the other.
  CO_RETURN_IF_ERROR(refcounts_.CheckBlocksDiffer());
  Blocks candidates = All();
  while (!candidates.empty()) {
    CO_ASSIGN_OR_RETURN(std::vector<uint64_t> empty, co_await EmptyOnes(candidates));
    CO_ASSIGN_OR_RETURN(candidates, co_await GiveUp(std::move(empty)));
  }
  co_return absl::OkStatus();
}

RefcountShrink::Blocks RefcountShrink::All() const {
  Blocks all;
  for (uint64_t i = 0; i < metadata_.refcount_table.entries(); ++i) {
    if (metadata_.refcount_table.Get(i) != 0) all.insert(i);
  }
  return all;
}

ClusterIndex RefcountShrink::ClusterOfBlock(uint64_t index) const {
  const auto entry = RefcountTableEntry::FromRaw(metadata_.refcount_table.Get(index));
  return metadata_.geometry.ClusterOf(entry.block().value_or(HostOffset(0)));
}

Task<absl::StatusOr<std::vector<uint64_t>>> RefcountShrink::EmptyOnes(const Blocks& blocks) {
  std::vector<uint64_t> empty;
  for (const uint64_t index : blocks) {
    CO_ASSIGN_OR_RETURN(const bool is_empty, co_await IsEmpty(index));
    if (is_empty) empty.push_back(index);
  }
  co_return empty;
}

// A block whose own refcount is not one is part of some damage, and stays.
Task<absl::StatusOr<bool>> RefcountShrink::IsEmpty(uint64_t index) {
  const Geometry& geometry = metadata_.geometry;
  const ClusterIndex own = ClusterOfBlock(index);
  CO_ASSIGN_OR_RETURN(const uint64_t own_refcount, co_await refcounts_.Get(own));
  if (own_refcount != 1) co_return false;
  const ClusterIndex first = geometry.FirstClusterOfRefcountBlock(index);
  const ClusterIndex end = first + geometry.refcount_block_entries();
  for (ClusterIndex cluster = first; cluster < end;) {
    CO_ASSIGN_OR_RETURN(const Refcounts::Slice slice, co_await refcounts_.SliceOf(cluster));
    for (; cluster < slice.clusters.end(); cluster = cluster + 1) {
      if (cluster != own && refcounts_.Get(slice, cluster) != 0) co_return false;
    }
  }
  co_return true;
}

Task<absl::StatusOr<RefcountShrink::Blocks>> RefcountShrink::GiveUp(std::vector<uint64_t> blocks) {
  const Geometry& geometry = metadata_.geometry;
  Blocks touched;
  if (blocks.empty()) co_return touched;
  std::vector<ClusterRun> clusters;
  for (const uint64_t index : blocks) {
    clusters.push_back({ClusterOfBlock(index), 1});
    metadata_.refcount_table.Set(index, 0);
  }
  CO_RETURN_IF_ERROR(co_await metadata_.write_back.Flush());
  for (size_t i = 0; i < blocks.size(); ++i) {
    co_await metadata_.refcount_block_cache.Drop(geometry.OffsetOf(clusters[i].first),
                                                 geometry.cluster_bytes());
    const uint64_t counted_by = geometry.RefcountTableIndex(clusters[i].first);
    // One that counted itself has taken its refcount with it.
    if (counted_by != blocks[i]) {
      CO_RETURN_IF_ERROR(co_await refcounts_.Set(clusters[i], 0));
      touched.insert(counted_by);
    }
    free_space_.Return(clusters[i]);
  }
  co_return touched;
}

}  // namespace ringcow
