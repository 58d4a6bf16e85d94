#include "qcow2/format/bitmap_directory.h"

#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/limits.h"
#include "qcow2/format/units.h"

namespace ringcow {
namespace {

using absl::InvalidArgumentError;
using absl::StrFormat;

struct ExtensionOnDisk {
  Be32 nb_bitmaps;
  Be32 reserved;
  Be64 bitmap_directory_size;
  Be64 bitmap_directory_offset;
};
static_assert(sizeof(ExtensionOnDisk) == 24);

struct EntryOnDisk {
  Be64 bitmap_table_offset;
  Be32 bitmap_table_size;
  Be32 flags;
  uint8_t type = 0;
  uint8_t granularity_bits = 0;
  Be16 name_size;
  Be32 extra_data_size;
};
static_assert(sizeof(EntryOnDisk) == 24);

constexpr uint32_t kInUse = 1;
constexpr uint32_t kAuto = 2;
constexpr uint8_t kDirtyTrackingBitmap = 1;
constexpr uint8_t kMinGranularityBits = 9;
constexpr uint8_t kMaxGranularityBits = 31;

bool IsTablePlace(uint64_t offset, uint64_t bytes, const Geometry& geometry) {
  return offset != 0 && offset <= kMaxFileOffset && bytes <= kMaxFileOffset - offset &&
         geometry.IsClusterAligned(HostOffset(offset));
}

bool IsValid(const EntryOnDisk& entry, const Geometry& geometry) {
  const uint64_t entries = entry.bitmap_table_size.value();
  const uint64_t name_bytes = entry.name_size.value();
  return entries != 0 && entries <= kMaxBitmapTableEntries &&
         IsTablePlace(entry.bitmap_table_offset.value(), entries * kTableEntryBytes, geometry) &&
         (entry.flags.value() & ~(kInUse | kAuto)) == 0 && entry.type == kDirtyTrackingBitmap &&
         entry.granularity_bits >= kMinGranularityBits &&
         entry.granularity_bits <= kMaxGranularityBits && name_bytes != 0 &&
         name_bytes <= kMaxBitmapNameBytes && entry.extra_data_size.value() == 0;
}

}  // namespace

absl::StatusOr<BitmapsExtension> ParseBitmapsExtension(std::span<const std::byte> payload,
                                                       const Geometry& geometry) {
  ExtensionOnDisk raw;
  if (payload.size() != sizeof(raw)) {
    return InvalidArgumentError("bitmaps_ext: Invalid extension length");
  }
  std::memcpy(&raw, payload.data(), sizeof(raw));
  const BitmapsExtension extension = {
      .nb_bitmaps = raw.nb_bitmaps.value(),
      .directory_bytes = raw.bitmap_directory_size.value(),
      .directory_offset = HostOffset(raw.bitmap_directory_offset.value())};
  if (raw.reserved.value() != 0) {
    return InvalidArgumentError("bitmaps_ext: Reserved field is not zero");
  }
  if (extension.nb_bitmaps == 0 || extension.nb_bitmaps > kMaxBitmaps) {
    return InvalidArgumentError(
        StrFormat("bitmaps_ext: impossible number of bitmaps (%d)", extension.nb_bitmaps));
  }
  if (!IsTablePlace(extension.directory_offset.value(), extension.directory_bytes, geometry)) {
    return InvalidArgumentError(
        StrFormat("bitmaps_ext: invalid bitmap directory offset %#x (%d bytes)",
                  extension.directory_offset.value(), extension.directory_bytes));
  }
  return extension;
}

absl::StatusOr<std::vector<BitmapDirectoryEntry>> ParseBitmapDirectory(
    std::span<const std::byte> directory, uint32_t nb_bitmaps, const Geometry& geometry) {
  std::vector<BitmapDirectoryEntry> entries;
  while (!directory.empty()) {
    const auto broken = [&](absl::string_view what) {
      return InvalidArgumentError(
          StrFormat("Broken bitmap directory: entry %d %s", entries.size(), what));
    };
    EntryOnDisk raw;
    if (directory.size() < sizeof(raw)) return broken("is cut off");
    if (entries.size() == nb_bitmaps) return broken("is one too many");
    std::memcpy(&raw, directory.data(), sizeof(raw));
    if (!IsValid(raw, geometry)) return broken("is invalid");
    const uint64_t bytes = AlignUp(sizeof(raw) + raw.name_size.value(), 8);
    if (directory.size() < bytes) return broken("is cut off");
    const auto name = directory.subspan(sizeof(raw), raw.name_size.value());
    entries.push_back(
        {.table_offset = HostOffset(raw.bitmap_table_offset.value()),
         .table_entries = raw.bitmap_table_size.value(),
         .in_use = (raw.flags.value() & kInUse) != 0,
         .automatic = (raw.flags.value() & kAuto) != 0,
         .granularity_bits = raw.granularity_bits,
         .name = std::string(reinterpret_cast<const char*>(name.data()), name.size())});
    directory = directory.subspan(bytes);
  }
  if (entries.size() != nb_bitmaps) {
    return InvalidArgumentError(
        StrFormat("Broken bitmap directory: %d entries instead of %d", entries.size(), nb_bitmaps));
  }
  return entries;
}

}  // namespace ringcow
