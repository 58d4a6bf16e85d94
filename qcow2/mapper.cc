#include "qcow2/mapper.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/invariant.h"
#include "engine/status_macros.h"
#include "qcow2/corruption.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/limits.h"
#include "qcow2/l2_slot.h"

namespace ringcow {
namespace {

Mapping::Kind KindOf(L2Entry::Kind kind) {
  switch (kind) {
    case L2Entry::Kind::kUnallocated:
      return Mapping::Kind::kUnallocated;
    case L2Entry::Kind::kZeroPlain:
    case L2Entry::Kind::kZeroAllocated:
      return Mapping::Kind::kZero;
    case L2Entry::Kind::kNormal:
      return Mapping::Kind::kNormal;
    case L2Entry::Kind::kCompressed:
      break;
  }
  return Mapping::Kind::kCompressed;
}

// Whether the beginning of `next`, `clusters` clusters further on, continues the mapping of `kind`
// in `first`.
bool Continues(ExtendedL2Entry first, L2Entry::Kind kind, ExtendedL2Entry next, uint64_t clusters,
               const Geometry& geometry) {
  if (next.kind(0) != kind || first.copied() != next.copied()) return false;
  if (kind == L2Entry::Kind::kCompressed) return false;
  const std::optional<HostOffset> host = first.host_offset();
  if (!host.has_value()) return !next.host_offset().has_value();
  return next.host_offset() == *host + clusters * geometry.cluster_bytes();
}

// Where, in its cluster, the run of like subclusters around `subcluster` ends.
uint64_t RunEnd(ExtendedL2Entry entry, uint32_t subcluster, const Geometry& geometry) {
  return (subcluster + entry.RunLength(subcluster)) * geometry.cluster_bytes() /
         kSubclustersPerCluster;
}

}  // namespace

uint32_t SubclusterOf(GuestOffset offset, const Geometry& geometry) {
  return geometry.OffsetInCluster(offset) * kSubclustersPerCluster / geometry.cluster_bytes();
}

SubclusterRange SubclustersIn(const Geometry& geometry, GuestOffset cluster, GuestOffset begin,
                              GuestOffset end) {
  const uint64_t unit = geometry.cluster_bytes() / kSubclustersPerCluster;
  begin = std::max(cluster, begin);
  end = std::max(begin, std::min(cluster + geometry.cluster_bytes(), end));
  return {static_cast<uint32_t>((begin - cluster) / unit),
          static_cast<uint32_t>((end - begin) / unit)};
}

Mapper::Mapper(Metadata& metadata, Allocator& allocator, DeferredFrees& frees)
    : metadata_(metadata),
      allocator_(allocator),
      frees_(frees),
      slice_bits_(
          std::countr_zero(metadata.l2_cache.table_bytes() / metadata.geometry.l2_entry_bytes())),
      changing_l1_(metadata.disk.loop()) {}

absl::StatusOr<L1Entry> Mapper::L1EntryFor(GuestOffset offset) const {
  const uint64_t l1_index = metadata_.geometry.L1Index(offset);
  const L1Entry entry = L1Entry::FromRaw(metadata_.l1.Get(l1_index));
  if (const absl::Status valid = entry.Validate(metadata_.geometry, l1_index); !valid.ok()) {
    // QEMU does not mind reserved bits.
    return entry.reserved_bits() != 0 ? Named(metadata_.disk, valid)
                                      : CorruptEntry(metadata_.disk, valid);
  }
  if (const std::optional<HostOffset> table = entry.l2_table()) {
    RETURN_IF_ERROR(metadata_.CheckPlace(*table, metadata_.geometry.cluster_bytes(), "L2 table"));
  }
  return entry;
}

HostOffset Mapper::SliceAt(HostOffset l2_table, GuestOffset offset) const {
  const uint64_t slice = metadata_.geometry.L2Index(offset) >> slice_bits_;
  return l2_table + slice * metadata_.l2_cache.table_bytes();
}

Mapper::L2Slice Mapper::SliceIn(TablePin table, GuestOffset offset) const {
  const uint64_t per_slice = uint64_t{1} << slice_bits_;
  const uint64_t first = metadata_.geometry.L2Index(offset) & (per_slice - 1);
  return L2Slice{std::move(table), first, per_slice - first,
                 metadata_.geometry.ClusterStart(offset)};
}

Task<absl::StatusOr<Mapper::L2Slice>> Mapper::SliceOf(HostOffset l2_table, GuestOffset offset) {
  CO_ASSIGN_OR_RETURN(TablePin table, co_await metadata_.l2_cache.Get(SliceAt(l2_table, offset)));
  co_return SliceIn(std::move(table), offset);
}

absl::StatusOr<ExtendedL2Entry> Mapper::EntryAt(const L2Slice& slice, uint64_t i) const {
  ASSIGN_OR_RETURN(const ExtendedL2Entry entry,
                   ValidL2Slot(metadata_, slice.table, slice.first_entry + i));
  const std::optional<HostOffset> host = entry.host_offset();
  if (!metadata_.has_data_file() || !host.has_value()) return entry;
  const GuestOffset guest = slice.first_cluster + i * metadata_.geometry.cluster_bytes();
  if (host->value() == guest.value()) return entry;
  return CorruptEntry(
      metadata_.disk,
      absl::InvalidArgumentError(absl::StrFormat(
          "External data file host cluster offset %#x does not match guest cluster offset: %#x (L2 "
          "offset: %#x, L2 index: %#x)",
          host->value(), guest.value(), slice.table.offset().value(), slice.first_entry + i)));
}

std::optional<ExtendedL2Entry> Mapper::RemovableEntryAt(const L2Slice& slice, uint64_t i) const {
  return RemovableL2Slot(metadata_, slice.table, slice.first_entry + i);
}

std::optional<absl::StatusOr<Mapping>> Mapper::TryFind(GuestOffset offset, uint64_t bytes) const {
  const absl::StatusOr<L1Entry> l1_entry = L1EntryFor(offset);
  if (!l1_entry.ok()) return l1_entry.status();
  const std::optional<HostOffset> l2_table = l1_entry->l2_table();
  if (!l2_table.has_value()) {
    const uint64_t mapped = metadata_.geometry.bytes_per_l2_table();
    const uint64_t rest = mapped - (offset.value() & (mapped - 1));
    return Mapping{.bytes = std::min(bytes, rest)};
  }
  TablePin table = metadata_.l2_cache.TryGet(SliceAt(*l2_table, offset));
  if (!table) return std::nullopt;
  const L2Slice slice = SliceIn(std::move(table), offset);
  if (const std::optional<Mapping> plain = PlainMappingIn(slice, offset, bytes)) return *plain;
  return MappingIn(slice, offset, bytes);
}

std::optional<Mapping> Mapper::PlainMappingIn(const L2Slice& slice, GuestOffset offset,
                                              uint64_t bytes) const {
  const Geometry& geometry = metadata_.geometry;
  const uint64_t in_cluster = geometry.OffsetInCluster(offset);
  if (in_cluster + bytes > geometry.cluster_bytes() || geometry.extended_l2() ||
      metadata_.has_data_file()) {
    return std::nullopt;
  }
  const L2Entry entry = L2Entry::FromRaw(LoadBe64At(slice.table.bytes(), slice.first_entry));
  const std::optional<HostOffset> host = entry.host_offset();
  if (entry.kind() != L2Entry::Kind::kNormal || !entry.IsValid(geometry) || !host.has_value() ||
      !metadata_.IsPlace(*host, geometry.cluster_bytes())) {
    return std::nullopt;
  }
  return Mapping{.kind = Mapping::Kind::kNormal,
                 .has_cluster = true,
                 .copied = entry.copied(),
                 .host = *host + in_cluster,
                 .bytes = bytes};
}

Task<absl::StatusOr<Mapping>> Mapper::Find(GuestOffset offset, uint64_t bytes) {
  for (;;) {
    std::optional<absl::StatusOr<Mapping>> found = TryFind(offset, bytes);
    if (found.has_value()) co_return *std::move(found);
    CO_ASSIGN_OR_RETURN(const L1Entry l1_entry, L1EntryFor(offset));
    const std::optional<HostOffset> l2_table = l1_entry.l2_table();
    RINGCOW_INVARIANT(l2_table.has_value(), "without an L2 table there is nothing to wait for");
    CO_ASSIGN_OR_RETURN(const TablePin table,
                        co_await metadata_.l2_cache.Get(SliceAt(*l2_table, offset)));
  }
}

Task<absl::StatusOr<Mapping>> Mapper::Describe(GuestOffset offset, uint64_t bytes) {
  const Geometry& geometry = metadata_.geometry;
  absl::StatusOr<Mapping> found = co_await Find(offset, bytes);
  if (found.ok() || !IsBehindFile(found.status())) co_return found;
  // Perhaps not the first cluster.
  bytes = std::min(bytes, geometry.cluster_bytes() - geometry.OffsetInCluster(offset));
  found = co_await Find(offset, bytes);
  const absl::StatusOr<L1Entry> l1_entry = L1EntryFor(offset);
  if (found.ok() || !IsBehindFile(found.status()) || !l1_entry.ok()) co_return found;
  const HostOffset l2_table = l1_entry->l2_table().value_or(HostOffset(0));
  CO_ASSIGN_OR_RETURN(const L2Slice slice, co_await SliceOf(l2_table, offset));
  const ExtendedL2Entry entry = LoadL2Slot(metadata_, slice.table.bytes(), slice.first_entry);
  const uint32_t subcluster = SubclusterOf(offset, geometry);
  const uint64_t rest = RunEnd(entry, subcluster, geometry) - geometry.OffsetInCluster(offset);
  co_return MappingOf(entry, entry.kind(subcluster), offset, std::min(bytes, rest));
}

Mapping Mapper::MappingOf(ExtendedL2Entry entry, L2Entry::Kind kind, GuestOffset offset,
                          uint64_t bytes) const {
  const Geometry& geometry = metadata_.geometry;
  const std::optional<HostOffset> host = entry.host_offset();
  return Mapping{
      .kind = KindOf(kind),
      .has_cluster = host.has_value(),
      .copied = entry.copied(),
      .host = host.value_or(HostOffset(0)) + geometry.OffsetInCluster(offset),
      .compressed = entry.entry().compressed_extent(geometry).value_or(CompressedExtent()),
      .bytes = bytes};
}

absl::Status Mapper::ToldToWriterAt(GuestOffset offset, const L2Slice& slice, uint64_t i,
                                    absl::Status status) const {
  const std::optional<ExtendedL2Entry> entry = RemovableEntryAt(slice, i);
  if (!entry.has_value() || IsAligned(metadata_.geometry, entry->entry())) return status;
  const GuestOffset cluster = slice.first_cluster + i * metadata_.geometry.cluster_bytes();
  const bool is_zero = entry->bitmap().zero() != 0;
  return ToldToWriters(std::move(status),
                       absl::StrFormat("%s cluster offset %#x unaligned (guest offset: %#x)",
                                       is_zero ? "Preallocated zero" : "Data",
                                       entry->host_offset().value_or(HostOffset(0)).value(),
                                       std::max(offset, cluster).value()));
}

absl::StatusOr<Mapping> Mapper::MappingIn(const L2Slice& slice, GuestOffset offset,
                                          uint64_t bytes) const {
  const Geometry& geometry = metadata_.geometry;
  const uint64_t in_cluster = geometry.OffsetInCluster(offset);
  const absl::StatusOr<ExtendedL2Entry> found = EntryAt(slice, 0);
  if (!found.ok()) return ToldToWriterAt(offset, slice, 0, found.status());
  const ExtendedL2Entry first = *found;
  const uint32_t subcluster = SubclusterOf(offset, geometry);
  const L2Entry::Kind kind = first.kind(subcluster);
  uint64_t end = RunEnd(first, subcluster, geometry);  // from the beginning of the first cluster
  const uint64_t wanted = std::min(slice.entries, geometry.ClustersFor(in_cluster + bytes));
  for (uint64_t i = 1; i < wanted && end == i * geometry.cluster_bytes(); ++i) {
    const absl::StatusOr<ExtendedL2Entry> next = EntryAt(slice, i);
    if (!next.ok()) break;  // the request ends there when it has come there
    if (Continues(first, kind, *next, i, geometry)) end += RunEnd(*next, 0, geometry);
  }
  return MappingOf(first, kind, offset, std::min(bytes, end - in_cluster));
}

Task<absl::StatusOr<Mapper::L2Slice>> Mapper::SliceForChange(GuestOffset offset) {
  CO_ASSIGN_OR_RETURN(const HostOffset l2_table, co_await OwnL2Table(offset));
  CO_ASSIGN_OR_RETURN(L2Slice slice, co_await SliceOf(l2_table, offset));
  CO_RETURN_IF_ERROR(metadata_.guard.BeforeWrite(slice.table.offset(), slice.table.bytes().size(),
                                                 OverlapGuard::Own::kL2));
  co_return std::move(slice);
}

Task<absl::StatusOr<std::optional<Mapper::L2Slice>>> Mapper::ExistingSliceForChange(
    GuestOffset offset) {
  CO_ASSIGN_OR_RETURN(const L1Entry entry, L1EntryFor(offset));
  if (!entry.l2_table().has_value()) co_return std::optional<L2Slice>();
  CO_ASSIGN_OR_RETURN(L2Slice slice, co_await SliceForChange(offset));
  co_return std::optional(std::move(slice));
}

Task<absl::StatusOr<HostOffset>> Mapper::OwnL2Table(GuestOffset offset) {
  CO_ASSIGN_OR_RETURN(L1Entry entry, L1EntryFor(offset));
  std::optional<HostOffset> l2_table = entry.l2_table();
  if (entry.copied() && l2_table.has_value()) co_return *l2_table;
  const Mutex::Guard guard = co_await changing_l1_.Lock();
  // Somebody else may have done it meanwhile.
  CO_ASSIGN_OR_RETURN(entry, L1EntryFor(offset));
  l2_table = entry.l2_table();
  if (entry.copied() && l2_table.has_value()) co_return *l2_table;
  co_return co_await NewL2Table(metadata_.geometry.L1Index(offset), l2_table);
}

Task<absl::StatusOr<HostOffset>> Mapper::NewL2Table(uint64_t l1_index,
                                                    std::optional<HostOffset> old) {
  const Geometry& geometry = metadata_.geometry;
  CO_RETURN_IF_ERROR(
      metadata_.guard.BeforeWrite(metadata_.l1.offset() + l1_index * kTableEntryBytes,
                                  kTableEntryBytes, OverlapGuard::Own::kL1));
  const absl::StatusOr<AllocatedRun> taken = co_await allocator_.Allocate(1);
  if (!taken.ok()) co_return allocator_.Refused("L2 table", taken.status());
  const AllocatedRun run = *taken;
  const HostOffset place = geometry.OffsetOf(run.first);
  Table& l1 = metadata_.l1.TableOf(l1_index);
  absl::Status status;
  if (!run.is_counted) status = co_await allocator_.refcounts().OrderBefore(l1, run);
  if (status.ok()) status = co_await FillL2Table(run, old, l1);
  if (!status.ok()) {
    // Left in the cache, the table would be written later over whatever uses its cluster by then.
    co_await metadata_.l2_cache.Drop(place, geometry.cluster_bytes());
    status.Update(co_await allocator_.Free(run));
    co_return status;
  }
  metadata_.l1.Set(l1_index, L1Entry::Table(place, /*copied=*/true).raw());
  if (old.has_value()) {
    frees_.Add({geometry.ClusterOf(*old), 1}, DeferredFrees::Was::kL2Table);
  }
  co_return place;
}

Task<absl::Status> Mapper::FillL2Table(const AllocatedRun& run, std::optional<HostOffset> old,
                                       Table& l1) {
  metadata_.Announce(DebugEvent::kL2AllocWrite);
  TableCache& cache = metadata_.l2_cache;
  // A table that the disk holds as zeroes maps nothing, just as a missing one: then L1 and L2 may
  // reach the disk in either order. Anything else there must be overwritten first.
  const bool may_lag = run.is_zero && !old.has_value();
  const auto on_disk = may_lag ? TableCache::OnDisk::kZeroes : TableCache::OnDisk::kUnknown;
  const HostOffset place = metadata_.geometry.OffsetOf(run.first);
  for (uint64_t at = 0; at < metadata_.geometry.cluster_bytes(); at += cache.table_bytes()) {
    TablePin from;
    if (old.has_value()) {
      CO_ASSIGN_OR_RETURN(from, co_await cache.Get(*old + at));
    }
    CO_ASSIGN_OR_RETURN(const TablePin slice, co_await cache.GetEmpty(place + at, on_disk));
    if (may_lag) continue;
    if (from) {
      // What the old slice must not overtake, its copy must not either.
      if (!from.table().is_settled()) {
        CO_RETURN_IF_ERROR(
            co_await metadata_.write_back.SetDependency(slice.table(), from.table()));
      }
      std::memcpy(slice.bytes().data(), from.bytes().data(), cache.table_bytes());
      cache.MarkDirty(slice, 0, cache.table_bytes());
    }
    CO_RETURN_IF_ERROR(co_await metadata_.write_back.SetDependency(l1, slice.table()));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Mapper::Enter(const L2Slice& slice, const FilledRun& filled, Exposure exposure) {
  const Geometry& geometry = metadata_.geometry;
  const AllocatedRun& run = filled.run;
  RINGCOW_INVARIANT(run.count <= slice.entries, "a run is entered slice by slice");
  Table& table = slice.table.table();
  if (!metadata_.has_data_file()) {
    if (!run.is_counted) {
      CO_RETURN_IF_ERROR(co_await allocator_.refcounts().OrderBefore(table, run));
    }
    if (!IsCovered(slice)) CO_RETURN_IF_ERROR(co_await OrderBehindRecord(slice));
    if (exposure == Exposure::kOther) metadata_.write_back.DependsOnFlush(table);
  }
  const GuestOffset first = geometry.ClusterStart(filled.begin);
  const GuestOffset begin = AlignDown(filled.begin, geometry.subcluster_bytes());
  const GuestOffset end = AlignUp(filled.end, geometry.subcluster_bytes());
  for (uint64_t i = 0; i < run.count; ++i) {
    const SubclusterRange subclusters =
        SubclustersIn(geometry, first + i * geometry.cluster_bytes(), begin, end);
    const SubclusterBitmap bitmap = LoadSlot(slice, i).bitmap();
    Replace(
        slice, i,
        ExtendedL2Entry::InCluster(geometry.OffsetOf(run.first + i), /*copied=*/true,
                                   bitmap.With(subclusters, SubclusterBitmap::State::kAllocated)));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Mapper::EnterCompressed(const L2Slice& slice, HostOffset place, uint64_t bytes) {
  const Geometry& geometry = metadata_.geometry;
  Table& table = slice.table.table();
  CO_RETURN_IF_ERROR(
      co_await allocator_.refcounts().OrderBefore(table, ClustersOf(geometry, {place, bytes})));
  if (!IsCovered(slice)) CO_RETURN_IF_ERROR(co_await OrderBehindRecord(slice));
  // Nothing else that decompresses to a cluster is there yet.
  metadata_.write_back.DependsOnFlush(table);
  Replace(slice, 0, ExtendedL2Entry::Compressed(L2Entry::Compressed(geometry, place, bytes)));
  co_return absl::OkStatus();
}

bool Mapper::IsCovered(const L2Slice& slice) const {
  return metadata_.recorded_reserve.Covers(metadata_.geometry.L1Index(slice.first_cluster));
}

Task<absl::Status> Mapper::OrderBehindRecord(const L2Slice& slice) {
  return metadata_.recorded_reserve.OrderBefore(slice.table.table(),
                                                metadata_.geometry.L1Index(slice.first_cluster));
}

ExtendedL2Entry Mapper::LoadSlot(const L2Slice& slice, uint64_t i) const {
  return LoadL2Slot(metadata_, slice.table.bytes(), slice.first_entry + i);
}

void Mapper::Replace(const L2Slice& slice, uint64_t i, ExtendedL2Entry next,
                     DeferredFrees::Was was) {
  const uint64_t slot = slice.first_entry + i;
  const L2Entry old = LoadSlot(slice, i).entry();
  StoreL2Slot(metadata_.geometry, slice.table.bytes(), slot, next);
  const uint64_t entry_bytes = metadata_.geometry.l2_entry_bytes();
  metadata_.l2_cache.MarkDirty(slice.table, slot * entry_bytes, entry_bytes);
  if (!old.host_offset().has_value() || old.host_offset() != next.host_offset()) GiveUp(old, was);
}

void Mapper::GiveUp(L2Entry entry, DeferredFrees::Was was) {
  // In a data file a cluster is its guest cluster's for good.
  if (metadata_.has_data_file()) return;
  const HostOffset host = entry.host_offset().value_or(HostOffset(0));
  if (!metadata_.geometry.IsClusterAligned(host)) {
    metadata_.TellCorruption(absl::StrFormat("Cannot free unaligned cluster %#x", host.value()),
                             CorruptionListener::Image::kGoesOn);
    return;
  }
  const ClusterRun clusters = ClustersOf(metadata_.geometry, entry);
  if (clusters.count > 0) frees_.Add(clusters, was);
}

}  // namespace ringcow
