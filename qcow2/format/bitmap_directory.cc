#include "qcow2/format/bitmap_directory.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

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
constexpr uint32_t kExtraDataCompatible = 4;
constexpr uint8_t kDirtyTrackingBitmap = 1;

bool IsTablePlace(uint64_t offset, uint64_t bytes, const Geometry& geometry) {
  return offset != 0 && offset <= kMaxFileOffset && bytes <= kMaxFileOffset - offset &&
         geometry.IsClusterAligned(HostOffset(offset));
}

// But for the name and the extra data, which may not fit in the directory.
bool IsValid(const EntryOnDisk& entry, const Geometry& geometry) {
  const uint64_t entries = entry.bitmap_table_size.value();
  const uint64_t name_bytes = entry.name_size.value();
  const uint32_t flags = entry.flags.value();
  if (entry.type != kDirtyTrackingBitmap ||
      (flags & ~(kInUse | kAuto | kExtraDataCompatible)) != 0 ||
      entry.granularity_bits < kMinBitmapGranularityBits ||
      entry.granularity_bits > kMaxBitmapGranularityBits) {
    return false;
  }
  const bool large_enough =
      (flags & kInUse) != 0 || entries >= BitmapTableEntries(geometry, entry.granularity_bits);
  return name_bytes != 0 && name_bytes <= kMaxBitmapNameBytes && entries != 0 && large_enough &&
         entries <= std::min(kMaxBitmapTableEntries, kMaxBitmapBytes / geometry.cluster_bytes()) &&
         IsTablePlace(entry.bitmap_table_offset.value(), entries * kTableEntryBytes, geometry);
}

EntryOnDisk FixedFieldsOf(const BitmapDirectoryEntry& entry) {
  const uint32_t flags = (entry.in_use ? kInUse : 0) | (entry.automatic ? kAuto : 0) |
                         (entry.extra_data_compatible ? kExtraDataCompatible : 0);
  return {.bitmap_table_offset = Be64(entry.table_offset.value()),
          .bitmap_table_size = Be32(entry.table_entries),
          .flags = Be32(flags),
          .type = kDirtyTrackingBitmap,
          .granularity_bits = entry.granularity_bits,
          .name_size = Be16(static_cast<uint16_t>(entry.name.size())),
          .extra_data_size = Be32(static_cast<uint32_t>(entry.extra_data.size()))};
}

template <typename T>
void AppendBytes(std::vector<std::byte>& out, const T& container) {
  const auto bytes = std::as_bytes(std::span(container));
  out.insert(out.end(), bytes.begin(), bytes.end());
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
  if (extension.directory_bytes == 0 || extension.directory_bytes > kMaxBitmapDirectoryBytes) {
    return InvalidArgumentError(
        StrFormat("bitmaps_ext: impossible bitmap directory size (%d)", extension.directory_bytes));
  }
  if (!IsTablePlace(extension.directory_offset.value(), extension.directory_bytes, geometry)) {
    return InvalidArgumentError(
        StrFormat("bitmaps_ext: invalid bitmap directory offset %#x (%d bytes)",
                  extension.directory_offset.value(), extension.directory_bytes));
  }
  return extension;
}

std::vector<std::byte> SerializeBitmapsExtension(const BitmapsExtension& extension) {
  const std::array<ExtensionOnDisk, 1> raw = {
      {{.nb_bitmaps = Be32(extension.nb_bitmaps),
        .reserved = {},
        .bitmap_directory_size = Be64(extension.directory_bytes),
        .bitmap_directory_offset = Be64(extension.directory_offset.value())}}};
  std::vector<std::byte> payload;
  AppendBytes(payload, raw);
  return payload;
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
    const uint64_t extra_bytes = raw.extra_data_size.value();
    const uint64_t bytes = AlignUp(sizeof(raw) + extra_bytes + raw.name_size.value(), 8);
    if (directory.size() < bytes) return broken("is cut off");
    const auto extra = directory.subspan(sizeof(raw), extra_bytes);
    const auto name = directory.subspan(sizeof(raw) + extra_bytes, raw.name_size.value());
    const uint32_t flags = raw.flags.value();
    entries.push_back({.table_offset = HostOffset(raw.bitmap_table_offset.value()),
                       .table_entries = raw.bitmap_table_size.value(),
                       .in_use = (flags & kInUse) != 0,
                       .automatic = (flags & kAuto) != 0,
                       .granularity_bits = raw.granularity_bits,
                       .name = std::string(reinterpret_cast<const char*>(name.data()), name.size()),
                       .extra_data_compatible = (flags & kExtraDataCompatible) != 0,
                       .extra_data = std::vector<std::byte>(extra.begin(), extra.end())});
    directory = directory.subspan(bytes);
  }
  if (entries.size() != nb_bitmaps) {
    return InvalidArgumentError(
        StrFormat("Broken bitmap directory: %d entries instead of %d", entries.size(), nb_bitmaps));
  }
  return entries;
}

absl::StatusOr<std::vector<std::byte>> SerializeBitmapDirectory(
    std::span<const BitmapDirectoryEntry> entries) {
  if (entries.size() > kMaxBitmaps) return absl::OutOfRangeError("Too many bitmaps");
  std::vector<std::byte> directory;
  for (const BitmapDirectoryEntry& entry : entries) {
    RINGCOW_INVARIANT(!entry.name.empty() && entry.name.size() <= kMaxBitmapNameBytes,
                      "not a bitmap name");
    AppendBytes(directory, std::array<EntryOnDisk, 1>{FixedFieldsOf(entry)});
    AppendBytes(directory, entry.extra_data);
    AppendBytes(directory, entry.name);
    directory.resize(AlignUp(directory.size(), 8));
    if (directory.size() > kMaxBitmapDirectoryBytes) {
      return absl::OutOfRangeError("Bitmap directory is too big");
    }
  }
  return directory;
}

std::optional<size_t> FindBitmap(std::span<const BitmapDirectoryEntry> entries,
                                 absl::string_view name) {
  const auto found =
      std::find_if(entries.begin(), entries.end(),
                   [name](const BitmapDirectoryEntry& entry) { return entry.name == name; });
  if (found == entries.end()) return std::nullopt;
  return static_cast<size_t>(found - entries.begin());
}

uint64_t BytesPerBitmapCluster(const Geometry& geometry, uint8_t granularity_bits) {
  return (geometry.cluster_bytes() * 8) << granularity_bits;
}

uint64_t BitmapTableEntries(const Geometry& geometry, uint8_t granularity_bits) {
  return DivideRoundUp(geometry.virtual_size(), BytesPerBitmapCluster(geometry, granularity_bits));
}

absl::Status ValidateNewBitmap(const Geometry& geometry, absl::string_view name,
                               uint64_t granularity) {
  if (name.empty()) return InvalidArgumentError("Bitmap name cannot be empty");
  if (name.size() > kMaxBitmapNameBytes) {
    return InvalidArgumentError(
        StrFormat("Name length exceeds maximum (%d characters)", kMaxBitmapNameBytes));
  }
  if (!IsPowerOfTwo(granularity) || granularity < uint64_t{1} << kMinBitmapGranularityBits) {
    return InvalidArgumentError("Granularity must be power of 2 and at least 512");
  }
  if (granularity > uint64_t{1} << kMaxBitmapGranularityBits) {
    return InvalidArgumentError(StrFormat("Granularity exceeds maximum (%d bytes)",
                                          uint64_t{1} << kMaxBitmapGranularityBits));
  }
  const uint64_t bits = DivideRoundUp(geometry.virtual_size(), granularity);
  const uint64_t max_bytes =
      std::min(kMaxBitmapBytes, kMaxBitmapTableEntries * geometry.cluster_bytes());
  if (DivideRoundUp(bits, 8) > max_bytes) {
    return InvalidArgumentError(
        "Too much space will be occupied by the bitmap. Use larger granularity");
  }
  return absl::OkStatus();
}

uint64_t DefaultBitmapGranularity(const Geometry& geometry) {
  return std::clamp<uint64_t>(geometry.cluster_bytes(), 4096, 65536);
}

}  // namespace ringcow
