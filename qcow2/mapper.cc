#include "qcow2/mapper.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/l1_entry.h"

namespace ringcow {
namespace {

using Kind = L2Entry::Kind;

// Whether `next`, `clusters` clusters further on, continues the mapping that `first` begins.
bool Continues(L2Entry first, L2Entry next, uint64_t clusters, const Geometry& geometry) {
  if (first.kind() != next.kind() || first.copied() != next.copied()) return false;
  const std::optional<HostOffset> host = first.host_offset();
  if (!host.has_value()) return first.kind() != Kind::kCompressed;
  return next.host_offset() == *host + clusters * geometry.cluster_bytes();
}

}  // namespace

Mapper::Mapper(Metadata& metadata, Allocator& allocator)
    : metadata_(metadata), allocator_(allocator), adding_l2_table_(metadata.disk.loop()) {}

absl::StatusOr<std::optional<HostOffset>> Mapper::L2TableOf(GuestOffset offset) const {
  const uint64_t l1_index = metadata_.geometry.L1Index(offset);
  const L1Entry entry = L1Entry::FromRaw(metadata_.l1.Get(l1_index));
  RETURN_IF_ERROR(Named(metadata_.disk, entry.Validate(metadata_.geometry, l1_index)));
  const std::optional<HostOffset> table = entry.l2_table();
  if (table.has_value()) {
    RETURN_IF_ERROR(metadata_.CheckPlace(*table, metadata_.geometry.cluster_bytes(), "L2 table"));
  }
  return table;
}

absl::Status Mapper::Validate(L2Entry entry, const TablePin& table, uint64_t slot) const {
  RETURN_IF_ERROR(Named(metadata_.disk, entry.Validate(metadata_.geometry, table.offset(), slot)));
  const std::optional<HostOffset> host = entry.host_offset();
  if (!host.has_value()) return absl::OkStatus();
  return metadata_.CheckPlace(*host, metadata_.geometry.cluster_bytes(), "data cluster");
}

Task<absl::StatusOr<Mapper::L2Slice>> Mapper::SliceOf(HostOffset l2_table, GuestOffset offset) {
  const uint64_t index = metadata_.geometry.L2Index(offset);
  const uint64_t per_slice = metadata_.l2_cache.table_bytes() / kTableEntryBytes;
  const uint64_t slice = index / per_slice;
  CO_ASSIGN_OR_RETURN(TablePin table, co_await metadata_.l2_cache.Get(
                                          l2_table + slice * metadata_.l2_cache.table_bytes()));
  const uint64_t first = index % per_slice;
  co_return L2Slice{std::move(table), first, per_slice - first};
}

Task<absl::StatusOr<Mapping>> Mapper::Find(GuestOffset offset, uint64_t bytes) {
  const Geometry& geometry = metadata_.geometry;
  CO_ASSIGN_OR_RETURN(const std::optional<HostOffset> l2_table, L2TableOf(offset));
  if (!l2_table.has_value()) {
    const uint64_t mapped = geometry.bytes_per_l2_table();
    const uint64_t rest = mapped - (offset.value() & (mapped - 1));
    co_return Mapping{Kind::kUnallocated, false, HostOffset(0), std::min(bytes, rest)};
  }
  CO_ASSIGN_OR_RETURN(const L2Slice slice, co_await SliceOf(*l2_table, offset));

  const uint64_t in_cluster = geometry.OffsetInCluster(offset);
  const uint64_t wanted = std::min(slice.entries, geometry.ClustersFor(in_cluster + bytes));
  const auto entry_at = [&slice](uint64_t i) {
    return L2Entry::FromRaw(LoadBe64At(slice.table.bytes(), slice.first_entry + i));
  };
  const L2Entry first = entry_at(0);
  CO_RETURN_IF_ERROR(Validate(first, slice.table, slice.first_entry));
  uint64_t clusters = 1;
  while (clusters < wanted) {
    const L2Entry next = entry_at(clusters);
    if (!Continues(first, next, clusters, geometry)) break;
    CO_RETURN_IF_ERROR(Validate(next, slice.table, slice.first_entry + clusters));
    ++clusters;
  }
  co_return Mapping{first.kind(), first.copied(),
                    first.host_offset().value_or(HostOffset(0)) + in_cluster,
                    std::min(bytes, clusters * geometry.cluster_bytes() - in_cluster)};
}

Task<absl::StatusOr<Mapper::L2Slice>> Mapper::SliceForChange(GuestOffset offset) {
  const uint64_t l1_index = metadata_.geometry.L1Index(offset);
  CO_ASSIGN_OR_RETURN(const std::optional<HostOffset> l2_table, L2TableOf(offset));
  if (!l2_table.has_value()) {
    CO_ASSIGN_OR_RETURN(const HostOffset added, co_await AddL2Table(offset));
    co_return co_await SliceOf(added, offset);
  }
  if (!L1Entry::FromRaw(metadata_.l1.Get(l1_index)).copied()) {
    CO_ASSIGN_OR_RETURN(const uint64_t refcount, co_await allocator_.refcounts().Get(
                                                     metadata_.geometry.ClusterOf(*l2_table)));
    if (refcount != 1) {
      co_return absl::UnimplementedError(
          absl::StrFormat("'%s': the L2 table at host offset %#x is shared (refcount %d)",
                          metadata_.disk.name(), l2_table->value(), refcount));
    }
  }
  co_return co_await SliceOf(*l2_table, offset);
}

Task<absl::StatusOr<HostOffset>> Mapper::AddL2Table(GuestOffset offset) {
  const Mutex::Guard guard = co_await adding_l2_table_.Lock();
  // Somebody else may have added it meanwhile.
  CO_ASSIGN_OR_RETURN(const std::optional<HostOffset> l2_table, L2TableOf(offset));
  if (l2_table.has_value()) co_return *l2_table;
  CO_ASSIGN_OR_RETURN(const AllocatedRun run, co_await allocator_.Allocate(1));
  absl::Status status = co_await LinkL2Table(metadata_.geometry.L1Index(offset), run);
  if (status.ok()) co_return metadata_.geometry.OffsetOf(run.first);
  // Left in the cache, the table would be written later over whatever uses its cluster by then.
  co_await metadata_.l2_cache.Drop(metadata_.geometry.OffsetOf(run.first),
                                   metadata_.geometry.cluster_bytes());
  status.Update(co_await allocator_.Free(run));
  co_return status;
}

Task<absl::Status> Mapper::LinkL2Table(uint64_t l1_index, const AllocatedRun& run) {
  const HostOffset table = metadata_.geometry.OffsetOf(run.first);
  TableCache& cache = metadata_.l2_cache;
  Table& l1 = metadata_.l1.TableOf(l1_index);
  CO_RETURN_IF_ERROR(co_await allocator_.refcounts().OrderBefore(l1, run));
  // A table that the disk holds as zeroes maps nothing, just as a missing one: then L1 and L2 may
  // reach the disk in either order. Anything else there must be overwritten first.
  const auto on_disk = run.is_zero ? TableCache::OnDisk::kZeroes : TableCache::OnDisk::kUnknown;
  for (uint64_t at = 0; at < metadata_.geometry.cluster_bytes(); at += cache.table_bytes()) {
    CO_ASSIGN_OR_RETURN(const TablePin slice, co_await cache.GetEmpty(table + at, on_disk));
    if (run.is_zero) continue;
    CO_RETURN_IF_ERROR(co_await metadata_.write_back.SetDependency(l1, slice.table()));
  }
  metadata_.l1.Set(l1_index, L1Entry::Table(table, /*copied=*/true).raw());
  co_return absl::OkStatus();
}

Task<absl::Status> Mapper::Enter(const L2Slice& slice, const AllocatedRun& run) {
  RINGCOW_INVARIANT(run.count <= slice.entries, "a run is entered slice by slice");
  Table& table = slice.table.table();
  CO_RETURN_IF_ERROR(co_await allocator_.refcounts().OrderBefore(table, run));
  // Where the disk held zeroes and the guest saw zeroes, an entry that is durable before its data
  // shows zeroes still. Anywhere else it would show what was there before.
  if (!run.is_zero) metadata_.write_back.DependsOnFlush(table);
  for (uint64_t i = 0; i < run.count; ++i) {
    const HostOffset cluster = metadata_.geometry.OffsetOf(run.first + i);
    StoreBe64At(slice.table.bytes(), slice.first_entry + i,
                L2Entry::Normal(cluster, /*copied=*/true).raw());
  }
  metadata_.l2_cache.MarkDirty(slice.table, slice.first_entry * kTableEntryBytes,
                               run.count * kTableEntryBytes);
  co_return absl::OkStatus();
}

}  // namespace ringcow
