#include "qcow2/l2_slot.h"

#include <optional>
#include <utility>

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

// QEMU minds offsets that are not aligned, and zeroes before version 3.
absl::Status InvalidSlot(const Metadata& metadata, const TablePin& table, uint64_t slot,
                         const absl::Status& why) {
  const Geometry& geometry = metadata.geometry;
  const size_t words = geometry.extended_l2() ? 2 : 1;
  const L2Entry entry = L2Entry::FromRaw(LoadBe64At(table.bytes(), slot * words));
  const bool is_zero =
      entry.kind() == L2Entry::Kind::kZeroPlain || entry.kind() == L2Entry::Kind::kZeroAllocated;
  const bool is_misplaced = !geometry.IsClusterAligned(entry.host_offset().value_or(HostOffset(0)));
  const bool is_too_early = is_zero && geometry.version() < 3;
  if (entry.reserved_bits() != 0 || (!is_misplaced && !is_too_early)) {
    return Named(metadata.disk, why);
  }
  return CorruptEntry(metadata.disk, why);
}

// As stored: without extended L2 entries all of it is in entry().
ExtendedL2Entry LoadStored(const Metadata& metadata, std::span<const std::byte> table,
                           uint64_t slot) {
  const bool extended = metadata.geometry.extended_l2();
  L2Entry entry = L2Entry::FromRaw(LoadBe64At(table, extended ? 2 * slot : slot));
  if (entry.host_offset() == HostOffset(0) && !metadata.has_data_file()) {
    entry = entry.WithCopied(false);
  }
  return ExtendedL2Entry::FromRaw(entry.raw(), extended ? LoadBe64At(table, 2 * slot + 1) : 0);
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
  if (!valid.ok()) return InvalidSlot(metadata, table, slot, valid);
  const ExtendedL2Entry entry = geometry.extended_l2() ? stored : FromStandard(stored.entry());
  const std::optional<HostOffset> host = entry.host_offset();
  const auto extent = entry.entry().compressed_extent(geometry);
  if (metadata.has_data_file()) {
    if (!extent.has_value()) return entry;
    return absl::InvalidArgumentError(
        absl::StrFormat("'%s': compressed cluster in an image with a data file (L2 offset: %#x, L2 "
                        "index: %#x)",
                        metadata.disk.name(), table.offset().value(), slot));
  }
  if (host.has_value()) {
    RETURN_IF_ERROR(metadata.CheckPlace(*host, geometry.cluster_bytes(), "data cluster"));
  } else if (extent.has_value()) {
    RETURN_IF_ERROR(metadata.CheckPlace(extent->offset, extent->bytes, "compressed cluster"));
  }
  return entry;
}

}  // namespace ringcow
