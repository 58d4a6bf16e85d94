#include "qcow2/format/l2_entry.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace ringcow {
namespace {

// The descriptor of a compressed cluster gives the cluster_bits - 8 bits below bit 62 to the number
// of sectors that the extent has beyond the one it begins in; the rest is the byte offset.
uint32_t OffsetBits(const Geometry& geometry) { return 62 - (geometry.cluster_bits() - 8); }

}  // namespace

L2Entry L2Entry::Compressed(const Geometry& geometry, HostOffset offset, uint64_t bytes) {
  RINGCOW_INVARIANT(bytes != 0 && bytes <= geometry.cluster_bytes(),
                    "not the size of a compressed cluster");
  RINGCOW_INVARIANT(offset.value() <= MaxCompressedEnd(geometry).value() - bytes,
                    "compressed data beyond what an entry can point to");
  const uint64_t last_sector = (offset.value() + bytes - 1) / kSectorBytes;
  const uint64_t further_sectors = last_sector - offset.value() / kSectorBytes;
  return L2Entry(kCompressed | further_sectors << OffsetBits(geometry) | offset.value());
}

HostOffset L2Entry::MaxCompressedEnd(const Geometry& geometry) {
  return HostOffset(std::min(uint64_t{1} << OffsetBits(geometry), kMaxEntryHostOffset + 1));
}

std::optional<CompressedExtent> L2Entry::compressed_extent(const Geometry& geometry) const {
  if ((raw_ & kCompressed) == 0) return std::nullopt;
  const uint32_t offset_bits = OffsetBits(geometry);
  const uint64_t further_sectors = (raw_ & (kCompressed - 1)) >> offset_bits;
  const uint64_t offset = raw_ & ((uint64_t{1} << offset_bits) - 1);
  const uint64_t first_sector_bytes = kSectorBytes - offset % kSectorBytes;
  return CompressedExtent{HostOffset(offset), further_sectors * kSectorBytes + first_sector_bytes};
}

bool L2Entry::IsValidCompressed(const Geometry& geometry) const {
  // Small clusters leave the offset more bits than the 56 that host offsets have.
  const std::optional<CompressedExtent> extent = compressed_extent(geometry);
  return !copied() && extent.has_value() && extent->offset.value() <= kMaxEntryHostOffset;
}

absl::Status L2Entry::Validate(const Geometry& geometry, HostOffset l2_table,
                               uint64_t l2_index) const {
  if (IsValid(geometry)) return absl::OkStatus();
  const auto broken = [&](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s (L2 offset: %#x, L2 index: %#x)", what, l2_table.value(), l2_index));
  };
  if ((raw_ & kCompressed) != 0) {
    return broken(absl::StrFormat("Compressed L2 entry %#x has %s", raw_,
                                  copied() ? "the copied flag set" : "an impossible offset"));
  }
  if ((raw_ & kZero) != 0 && geometry.version() < 3) {
    return broken("Zero cluster entry found in pre-v3 image");
  }
  if ((raw_ & kZero) != 0 && geometry.extended_l2()) {
    return broken(absl::StrFormat("L2 entry %#x has the zero flag set beside subclusters", raw_));
  }
  if (reserved_bits() != 0) {
    return broken(absl::StrFormat("L2 entry %#x has reserved bits set", raw_));
  }
  return broken(absl::StrFormat("Cluster allocation offset %#x unaligned", raw_ & kOffsetMask));
}

}  // namespace ringcow
