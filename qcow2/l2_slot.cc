#include "qcow2/l2_slot.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/invariant.h"
#include "engine/status_macros.h"
#include "qcow2/corruption.h"
#include "qcow2/format/big_endian.h"

namespace ringcow {
namespace {

ExtendedL2Entry FromStandard(L2Entry entry) {
  const L2Entry::Kind kind = entry.kind();
  if (kind == L2Entry::Kind::kCompressed) return ExtendedL2Entry::Compressed(entry);
  if (kind == L2Entry::Kind::kUnallocated) return ExtendedL2Entry();
  const bool is_zero = kind != L2Entry::Kind::kNormal;
  const SubclusterBitmap bitmap =
      is_zero ? SubclusterBitmap::AllZero() : SubclusterBitmap::AllAllocated();
  const std::optional<HostOffset> host = entry.host_offset();
  return host.has_value() ? ExtendedL2Entry::InCluster(*host, entry.copied(), bitmap)
                          : ExtendedL2Entry::WithoutCluster(bitmap);
}

L2Entry ToStandard(ExtendedL2Entry entry) {
  if (entry.entry().kind() == L2Entry::Kind::kCompressed) return entry.entry();
  const std::optional<HostOffset> host = entry.host_offset();
  if (entry.bitmap() == SubclusterBitmap::AllZero()) {
    return host.has_value() ? L2Entry::ZeroAllocated(*host, entry.copied()) : L2Entry::ZeroPlain();
  }
  const bool is_normal = host.has_value() && entry.bitmap() == SubclusterBitmap::AllAllocated();
  RINGCOW_INVARIANT(is_normal || entry == ExtendedL2Entry(), "subclusters differ where none exist");
  return is_normal ? L2Entry::Normal(*host, entry.copied()) : L2Entry::Unallocated();
}

std::string PlaceOf(const TablePin& table, uint64_t slot) {
  return absl::StrFormat("(L2 offset: %#x, L2 index: %#x)", table.offset().value(), slot);
}

// QEMU minds offsets that are not aligned, zeroes before version 3, and bitmaps that mean nothing.
absl::Status InvalidSlot(const Metadata& metadata, const TablePin& table, uint64_t slot,
                         ExtendedL2Entry stored, const absl::Status& why) {
  const Geometry& geometry = metadata.geometry;
  const L2Entry entry = stored.entry();
  const bool is_compressed = entry.kind() == L2Entry::Kind::kCompressed;
  const bool is_too_early = entry.kind() != entry.WithoutZero().kind() && geometry.version() < 3;
  if (is_compressed || entry.reserved_bits() != 0) return Named(metadata.disk, why);
  if (!IsAligned(geometry, entry) || is_too_early) return CorruptEntry(metadata.disk, why);
  if (!geometry.extended_l2()) return Named(metadata.disk, why);
  const std::string place = PlaceOf(table, slot);
  return ToldToWriters(CorruptEntry(metadata.disk, absl::InvalidArgumentError(absl::StrCat(
                                                       "Invalid cluster entry found  ", place))),
                       absl::StrCat("Invalid cluster entry found ", place));
}

std::optional<ExtendedL2Entry> WithoutSubclusters(const Metadata& metadata, L2Entry entry) {
  if (entry.kind() == L2Entry::Kind::kCompressed || entry.reserved_bits() != 0) return std::nullopt;
  const std::optional<HostOffset> host = entry.host_offset();
  if (!host.has_value()) return ExtendedL2Entry::WithoutCluster(SubclusterBitmap::AllZero());
  if (!metadata.IsPlace(*host, metadata.geometry.cluster_bytes())) return std::nullopt;
  return ExtendedL2Entry::InCluster(*host, entry.copied(), SubclusterBitmap::AllZero());
}

// As stored: without extended L2 entries all of it is in entry().
ExtendedL2Entry LoadStored(const Metadata& metadata, std::span<const std::byte> table,
                           uint64_t slot) {
  ExtendedL2Entry stored = metadata.geometry.extended_l2()
                               ? ExtendedL2Entry::Load(table, slot).WithoutUnused()
                               : ExtendedL2Entry::FromRaw(LoadBe64At(table, slot), 0);
  if (stored.host_offset() == HostOffset(0) && !metadata.has_data_file()) {
    stored = stored.WithCopied(false);
  }
  return stored;
}

}  // namespace

ExtendedL2Entry LoadL2Slot(const Metadata& metadata, std::span<const std::byte> table,
                           uint64_t slot) {
  const ExtendedL2Entry stored = LoadStored(metadata, table, slot);
  return metadata.geometry.extended_l2() ? stored : FromStandard(stored.entry());
}

void StoreL2Slot(const Geometry& geometry, std::span<std::byte> table, uint64_t slot,
                 ExtendedL2Entry entry) {
  if (geometry.extended_l2()) {
    entry.Store(table, slot);
  } else {
    StoreBe64At(table, slot, ToStandard(entry).raw());
  }
}

absl::StatusOr<ExtendedL2Entry> ValidL2Slot(const Metadata& metadata, const TablePin& table,
                                            uint64_t slot) {
  const Geometry& geometry = metadata.geometry;
  const ExtendedL2Entry stored = LoadStored(metadata, table.bytes(), slot);
  const absl::Status valid = geometry.extended_l2()
                                 ? stored.Validate(geometry, table.offset(), slot)
                                 : stored.entry().Validate(geometry, table.offset(), slot);
  if (!valid.ok()) return InvalidSlot(metadata, table, slot, stored, valid);
  const ExtendedL2Entry entry = geometry.extended_l2() ? stored : FromStandard(stored.entry());
  const std::optional<HostOffset> host = entry.host_offset();
  const auto extent = entry.entry().compressed_extent(geometry);
  if (metadata.has_data_file()) {
    if (!extent.has_value()) return entry;
    return absl::InvalidArgumentError(
        absl::StrFormat("'%s': compressed cluster in an image with a data file %s",
                        metadata.disk.name(), PlaceOf(table, slot)));
  }
  if (host.has_value()) {
    RETURN_IF_ERROR(metadata.CheckPlace(*host, geometry.cluster_bytes(), "data cluster"));
  } else if (extent.has_value()) {
    RETURN_IF_ERROR(metadata.CheckPlace(extent->offset, extent->bytes, "compressed cluster"));
  }
  return entry;
}

bool IsAligned(const Geometry& geometry, L2Entry entry) {
  return geometry.IsClusterAligned(entry.host_offset().value_or(HostOffset(0)));
}

std::optional<ExtendedL2Entry> RemovableL2Slot(const Metadata& metadata, const TablePin& table,
                                               uint64_t slot) {
  const Geometry& geometry = metadata.geometry;
  const ExtendedL2Entry stored = LoadStored(metadata, table.bytes(), slot);
  if (metadata.has_data_file()) return std::nullopt;
  if (IsAligned(geometry, stored.entry())) {
    return geometry.extended_l2() ? WithoutSubclusters(metadata, stored.entry()) : std::nullopt;
  }
  const uint64_t aligned = stored.entry().raw() & ~(geometry.cluster_bytes() - kSectorBytes);
  const ExtendedL2Entry valid = ExtendedL2Entry::FromRaw(aligned, stored.bitmap().raw());
  const bool is_valid =
      geometry.extended_l2() ? valid.IsValid(geometry) : valid.entry().IsValid(geometry);
  if (!is_valid) return std::nullopt;
  return LoadL2Slot(metadata, table.bytes(), slot);
}

}  // namespace ringcow
