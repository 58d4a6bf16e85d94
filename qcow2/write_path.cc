#include "qcow2/write_path.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "engine/scope.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"

namespace ringcow {
namespace {

// The subclusters that must come along when a guest cluster moves to another host cluster, as a
// range: those that have their data in the old one.
uint64_t FirstWithData(ExtendedL2Entry entry, const Geometry& geometry) {
  if (entry.entry().kind() == L2Entry::Kind::kCompressed) return 0;
  const uint32_t allocated = entry.bitmap().allocated();
  return allocated == 0 ? geometry.subclusters_per_cluster() : std::countr_zero(allocated);
}
uint64_t EndOfData(ExtendedL2Entry entry, const Geometry& geometry) {
  if (entry.entry().kind() == L2Entry::Kind::kCompressed) return geometry.subclusters_per_cluster();
  return std::bit_width(entry.bitmap().allocated());
}

bool IsNormal(ExtendedL2Entry entry, const Geometry& geometry, GuestOffset offset) {
  return entry.kind(SubclusterOf(offset, geometry)) == L2Entry::Kind::kNormal;
}

}  // namespace

WritePath::WritePath(Metadata& metadata, Mapper& mapper, Allocator& allocator, ReadPath& reader,
                     RangeLock& changing, bool enters_early)
    : metadata_(metadata),
      mapper_(mapper),
      allocator_(allocator),
      reader_(reader),
      copy_on_write_(metadata, reader),
      changing_(changing),
      enters_early_(enters_early) {}

Task<absl::Status> WritePath::Write(GuestOffset offset, std::span<const std::byte> from) {
  // Most overwrites need no coroutine but this one.
  std::optional<absl::StatusOr<Mapping>> found = mapper_.TryFind(offset, from.size());
  if (!found.has_value()) found = co_await mapper_.Find(offset, from.size());
  CO_RETURN_IF_ERROR(found->status());
  const Mapping mapping = **found;
  if (mapping.bytes == from.size()) {
    if (!MayWriteInPlace(mapping)) co_return co_await WriteChanging(offset, from, Part::kFirst);
    CO_RETURN_IF_ERROR(GuardInPlace(mapping, from.size()));
    co_return co_await metadata_.data_disk.Write(mapping.host, from);
  }
  co_return co_await WritePieces(offset, from, mapping);
}

Task<absl::Status> WritePath::WritePieces(GuestOffset offset, std::span<const std::byte> from,
                                          Mapping first) {
  Scope pieces(metadata_.disk.loop());
  absl::StatusOr<Mapping> mapping = first;
  Part part = Part::kFirst;
  for (;;) {
    mapping = WithNext(*mapping, offset, from.size());
    pieces.Spawn(WritePiece(offset, from.first(mapping->bytes), *mapping, part));
    if (!MayWriteInPlace(*mapping)) part = Part::kNext;
    offset += mapping->bytes;
    from = from.subspan(mapping->bytes);
    if (from.empty()) break;
    mapping = co_await mapper_.Find(offset, from.size());
    if (!mapping.ok()) break;
  }
  absl::Status status = co_await pieces.Join();
  status.Update(mapping.status());
  co_return status;
}

Task<absl::Status> WritePath::WritePiece(GuestOffset offset, std::span<const std::byte> from,
                                         Mapping mapping, Part part) {
  if (!MayWriteInPlace(mapping)) co_return co_await WriteChanging(offset, from, part);
  CO_RETURN_IF_ERROR(GuardInPlace(mapping, from.size()));
  co_return co_await metadata_.data_disk.Write(mapping.host, from);
}

// One allocation and one write for clusters of all kinds, where all need new ones, or none does and
// they are neighbours. Guest bytes among those that have their place already are written there
// while the lock is held, which others who write to them do not ask for.
Mapping WritePath::WithNext(Mapping mapping, GuestOffset offset, uint64_t bytes) const {
  if (metadata_.has_raw_data_file()) return mapping;
  const uint64_t table = metadata_.geometry.bytes_per_l2_table();
  bytes = std::min(bytes, AlignDown(offset, table) + table - offset);
  while (mapping.bytes < bytes) {
    const auto found = mapper_.TryFind(offset + mapping.bytes, bytes - mapping.bytes);
    // Where a table has to be read for it, or a damaged entry fails the request, it is not one
    // piece with this.
    if (!found.has_value() || !found->ok()) break;
    const Mapping& next = **found;
    if (NeedsNewCluster(next) != NeedsNewCluster(mapping)) break;
    if (!NeedsNewCluster(next)) {
      if (next.host != mapping.host + mapping.bytes) break;
      const bool is_all_normal = mapping.kind == Mapping::Kind::kNormal;
      const bool is_normal = next.kind == Mapping::Kind::kNormal;
      if (!is_normal && (is_all_normal || !reader_.IsZero(next))) mapping.kind = next.kind;
    } else {
      mapping.has_cluster = mapping.copied = false;
      if (!reader_.IsZero(next)) mapping.kind = next.kind;
    }
    mapping.bytes += next.bytes;
  }
  return mapping;
}

bool WritePath::NeedsNewCluster(const Mapping& mapping) {
  return !mapping.has_cluster || !mapping.copied;
}

bool WritePath::MayWriteInPlace(const Mapping& mapping) const {
  return mapping.is_writable() && IsShown();
}

bool WritePath::IsShown() const { return metadata_.write_back.durable_through() >= shown_; }

absl::Status WritePath::GuardInPlace(const Mapping& mapping, uint64_t length) const {
  // In a file of their own clusters overlap with nothing.
  if (metadata_.header.external_data()) return absl::OkStatus();
  return metadata_.guard.BeforeWrite(mapping.host, length, OverlapGuard::Own::kNothing);
}

Task<absl::Status> WritePath::WriteChanging(GuestOffset offset, std::span<const std::byte> from,
                                            Part part) {
  const Geometry& geometry = metadata_.geometry;
  const GuestOffset end = AlignUp(offset + from.size(), geometry.cluster_bytes());
  while (!from.empty()) {
    Placed placed;
    {
      RangeLock::Hold hold(changing_, geometry.ClusterStart(offset).value(), end.value());
      co_await hold;
      CO_ASSIGN_OR_RETURN(placed, co_await Place(offset, from, part));
    }
    if (placed.is_new) part = Part::kNext;
    if (placed.host.has_value()) {
      CO_RETURN_IF_ERROR(
          co_await metadata_.data_disk.Write(*placed.host, from.first(placed.bytes)));
    }
    offset += placed.bytes;
    from = from.subspan(placed.bytes);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> WritePath::WriteLocked(GuestOffset offset, std::span<const std::byte> from) {
  Part part = Part::kFirst;
  while (!from.empty()) {
    CO_ASSIGN_OR_RETURN(const Placed placed, co_await Place(offset, from, part));
    if (placed.is_new) part = Part::kNext;
    if (placed.host.has_value()) {
      CO_RETURN_IF_ERROR(
          co_await metadata_.data_disk.Write(*placed.host, from.first(placed.bytes)));
    }
    offset += placed.bytes;
    from = from.subspan(placed.bytes);
  }
  co_return absl::OkStatus();
}

Task<absl::StatusOr<WritePath::Placed>> WritePath::Place(GuestOffset offset,
                                                         std::span<const std::byte> from,
                                                         Part part) {
  // Who held the lock before may have allocated some of it.
  CO_ASSIGN_OR_RETURN(Mapping mapping, co_await mapper_.Find(offset, from.size()));
  // What is shown already, though by a damaged entry without COPIED, holds the guest's bytes.
  if (mapping.kind != Mapping::Kind::kNormal && metadata_.has_raw_data_file()) {
    CO_RETURN_IF_ERROR(co_await ShowRawData(offset, mapping.bytes));
    CO_ASSIGN_OR_RETURN(mapping, co_await mapper_.Find(offset, from.size()));
  }
  mapping = WithNext(mapping, offset, from.size());
  if (!mapping.is_writable()) {
    co_return co_await Allocate(offset, from.first(mapping.bytes), mapping, part);
  }
  if (!IsShown()) CO_RETURN_IF_ERROR(co_await metadata_.write_back.Flush());
  CO_RETURN_IF_ERROR(GuardInPlace(mapping, mapping.bytes));
  co_return Placed{mapping.bytes, mapping.host};
}

Task<absl::StatusOr<WritePath::Placed>> WritePath::Allocate(GuestOffset offset,
                                                            std::span<const std::byte> from,
                                                            Mapping mapping, Part part) {
  const Geometry& geometry = metadata_.geometry;
  CO_ASSIGN_OR_RETURN(const Mapper::L2Slice slice, co_await mapper_.SliceForChange(offset));
  const uint64_t in_cluster = geometry.OffsetInCluster(offset);
  const uint64_t clusters = std::min(slice.entries, geometry.ClustersFor(in_cluster + from.size()));

  // A cluster of the image's own that is not read from as yet, not here, needs no other.
  const bool keeps_cluster = !NeedsNewCluster(mapping);
  AllocatedRun run{{geometry.ClusterOf(mapping.host), clusters}};
  if (!keeps_cluster) {
    CO_ASSIGN_OR_RETURN(run, co_await Clusters(offset, clusters, part));
  }
  const uint64_t bytes = run.count * geometry.cluster_bytes() - in_cluster;
  from = from.first(std::min<uint64_t>(from.size(), bytes));

  absl::Status status;
  if (keeps_cluster) status = GuardInPlace(mapping, from.size());
  Placed placed{.bytes = from.size(), .is_new = !keeps_cluster};
  absl::StatusOr<FilledRun> filled = ToFill(slice, run, offset, from.size(), placed.is_new);
  status.Update(filled.status());
  if (status.ok()) {
    const auto filling = co_await copy_on_write_.Prepare(*filled, mapping, offset, from.size());
    status = filling.status();
    if (status.ok() && enters_early_ && !MustFollowData(*filling)) {
      placed.host = filling->host_of_data();
      status = co_await mapper_.Enter(slice, *filled, filling->exposure);
    } else if (status.ok()) {
      status = co_await FillAndEnter(slice, *filled, *filling, from);
    }
  }
  if (status.ok()) co_return placed;
  if (placed.is_new && !metadata_.has_data_file()) status.Update(co_await allocator_.Free(run));
  co_return status;
}

bool WritePath::MustFollowData(const CopyOnWrite::Filling& filling) const {
  const bool is_forgotten = metadata_.write_back.IsForgotten(Content::kL2, Content::kData);
  return filling.exposure != Exposure::kSame && !is_forgotten;
}

Task<absl::Status> WritePath::FillAndEnter(const Mapper::L2Slice& slice, FilledRun filled,
                                           CopyOnWrite::Filling filling,
                                           std::span<const std::byte> from) {
  CO_RETURN_IF_ERROR(co_await copy_on_write_.Fill(filling, from));
  co_return co_await mapper_.Enter(slice, filled, filling.exposure);
}

// The file by itself is the guest's disk at every instant. Were it written first, a power cut could
// leave bytes in it that the tables hide. They hide something in images that QEMU made: where there
// are subclusters, and where there was no preallocation.
Task<absl::Status> WritePath::ShowRawData(GuestOffset offset, uint64_t length) {
  const Geometry& geometry = metadata_.geometry;
  CO_ASSIGN_OR_RETURN(const Mapper::L2Slice slice, co_await mapper_.SliceForChange(offset));
  const uint64_t clusters =
      std::min(slice.entries, geometry.ClustersFor(geometry.OffsetInCluster(offset) + length));
  const GuestOffset first = geometry.ClusterStart(offset);
  const GuestOffset last = first + (clusters - 1) * geometry.cluster_bytes();
  CO_ASSIGN_OR_RETURN(const ExtendedL2Entry first_entry, mapper_.EntryAt(slice, 0));
  CO_ASSIGN_OR_RETURN(const ExtendedL2Entry last_entry, mapper_.EntryAt(slice, clusters - 1));
  FilledRun shown{.run = {{geometry.ClusterOf(HostOffset(first.value())), clusters}},
                  .begin = AlignDown(offset, geometry.subcluster_bytes()),
                  .end = std::min(AlignUp(offset + length, geometry.subcluster_bytes()),
                                  last + geometry.cluster_bytes())};
  if (first_entry.bitmap().allocated() == 0) shown.begin = first;
  if (last_entry.bitmap().allocated() == 0) shown.end = last + geometry.cluster_bytes();
  const GuestOffset end = std::min(shown.end, GuestOffset(geometry.virtual_size()));
  CO_RETURN_IF_ERROR(
      co_await ZeroOnDisk(metadata_.data_disk, HostOffset(shown.begin.value()), end - shown.begin));
  CO_RETURN_IF_ERROR(co_await mapper_.Enter(slice, shown, Exposure::kOther));
  shown_ = metadata_.write_back.now();
  co_return co_await metadata_.write_back.Flush();
}

Task<absl::StatusOr<AllocatedRun>> WritePath::Clusters(GuestOffset offset, uint64_t clusters,
                                                       Part part) {
  if (metadata_.has_data_file()) return AtSameOffset(offset, clusters);
  return allocator_.AllocateData(clusters, /*goes_on=*/part == Part::kNext);
}

// What the data file holds there is not known: a discard need not have cleared it.
Task<absl::StatusOr<AllocatedRun>> WritePath::AtSameOffset(GuestOffset offset, uint64_t clusters) {
  const ClusterIndex first = metadata_.geometry.ClusterOf(HostOffset(offset.value()));
  co_return AllocatedRun{{first, clusters}};
}

absl::StatusOr<FilledRun> WritePath::ToFill(const Mapper::L2Slice& slice, const AllocatedRun& run,
                                            GuestOffset offset, uint64_t length, bool moves) const {
  const Geometry& geometry = metadata_.geometry;
  const uint64_t unit = geometry.subcluster_bytes();
  const GuestOffset last_byte = offset + (length - 1);
  FilledRun filled{
      .run = run, .begin = AlignDown(offset, unit), .end = AlignUp(offset + length, unit)};
  if (moves && !geometry.extended_l2()) return filled;
  ASSIGN_OR_RETURN(const ExtendedL2Entry first, mapper_.EntryAt(slice, 0));
  ASSIGN_OR_RETURN(const ExtendedL2Entry last, mapper_.EntryAt(slice, run.count - 1));
  if (!moves) {
    // Bytes that keep their place may be written meanwhile by others, who ask for no lock.
    if (IsNormal(first, geometry, offset)) filled.begin = offset;
    if (IsNormal(last, geometry, last_byte)) filled.end = offset + length;
    return filled;
  }
  filled.begin =
      std::min(filled.begin, geometry.ClusterStart(offset) + FirstWithData(first, geometry) * unit);
  filled.end =
      std::max(filled.end, geometry.ClusterStart(last_byte) + EndOfData(last, geometry) * unit);
  return filled;
}

}  // namespace ringcow
