#ifndef RINGCOW_QCOW2_FORMAT_BITMAP_DIRECTORY_H_
#define RINGCOW_QCOW2_FORMAT_BITMAP_DIRECTORY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/host_offset.h"
#include "engine/invariant.h"
#include "qcow2/format/geometry.h"

namespace ringcow {

// Where the specification leaves room they are QEMU's.
inline constexpr uint32_t kMaxBitmaps = 65535;
inline constexpr uint64_t kMaxBitmapDirectoryBytes = uint64_t{kMaxBitmaps} * 1024;
inline constexpr uint64_t kMaxBitmapTableEntries = uint64_t{1} << 27;
inline constexpr uint64_t kMaxBitmapBytes = uint64_t{512} << 20;  // in whole clusters
inline constexpr uint64_t kMaxBitmapNameBytes = 1023;
inline constexpr uint8_t kMinBitmapGranularityBits = 9;
inline constexpr uint8_t kMaxBitmapGranularityBits = 31;

// The header extension that says where an image's persistent dirty bitmaps are.
struct BitmapsExtension {
  uint32_t nb_bitmaps = 0;       // 1 to kMaxBitmaps
  uint64_t directory_bytes = 0;  // 1 to kMaxBitmapDirectoryBytes
  HostOffset directory_offset;   // cluster-aligned; directory_bytes behind it there is no overflow
};

// InvalidArgument when `payload` is not such an extension.
absl::StatusOr<BitmapsExtension> ParseBitmapsExtension(std::span<const std::byte> payload,
                                                       const Geometry& geometry);
// The payload for HeaderExtensions::bitmaps.
std::vector<std::byte> SerializeBitmapsExtension(const BitmapsExtension& extension);

// An entry of the bitmap directory: a dirty bitmap of the whole virtual disk.
struct BitmapDirectoryEntry {
  HostOffset table_offset;       // cluster-aligned; no table overflows a file offset
  uint32_t table_entries = 0;    // 1 to kMaxBitmapTableEntries, of 8 bytes
  bool in_use = false;           // not written back: its contents are out of date
  bool automatic = false;        // to be kept up to date by whoever writes to the image
  uint8_t granularity_bits = 0;  // a bit is for 2^granularity_bits bytes of the disk
  std::string name;              // 1 to kMaxBitmapNameBytes, any bytes
  // Nobody has defined any yet. It has to be kept; and unless it is marked as compatible, the
  // bitmap must not be used. (QEMU refuses images that have some.)
  bool extra_data_compatible = false;
  std::vector<std::byte> extra_data;

  bool usable() const { return !in_use && (extra_data.empty() || extra_data_compatible); }
};

// Parses all of the directory. InvalidArgument, naming the entry, when an entry does not fit, has
// fields that no version of the format defines, is larger than the limits above, or (unless it is
// in use, as after a resize) too small for the virtual disk; or when more or fewer bytes are there
// than nb_bitmaps entries have. Names are not compared.
absl::StatusOr<std::vector<BitmapDirectoryEntry>> ParseBitmapDirectory(
    std::span<const std::byte> directory, uint32_t nb_bitmaps, const Geometry& geometry);

// The directory as bytes; ParseBitmapDirectory gives the same entries again. OutOfRange when there
// are more than kMaxBitmaps or it takes more than kMaxBitmapDirectoryBytes.
absl::StatusOr<std::vector<std::byte>> SerializeBitmapDirectory(
    std::span<const BitmapDirectoryEntry> entries);

// The first with this name.
std::optional<size_t> FindBitmap(std::span<const BitmapDirectoryEntry> entries,
                                 absl::string_view name);

// Entries that the table of a bitmap of this disk has. Bytes of the disk that one of them is for.
uint64_t BitmapTableEntries(const Geometry& geometry, uint8_t granularity_bits);
uint64_t BytesPerBitmapCluster(const Geometry& geometry, uint8_t granularity_bits);

// Whether a new bitmap may be made: InvalidArgument in QEMU's words for a name or a granularity
// outside of the limits, or when the bitmap would be too large.
absl::Status ValidateNewBitmap(const Geometry& geometry, absl::string_view name,
                               uint64_t granularity);
// QEMU's: the cluster size, but at least 4 KiB and at most 64 KiB.
uint64_t DefaultBitmapGranularity(const Geometry& geometry);

// An entry of a bitmap table: where a cluster of the bitmap is.
class BitmapTableEntry {
 public:
  static constexpr BitmapTableEntry FromRaw(uint64_t raw) { return BitmapTableEntry(raw); }
  static constexpr BitmapTableEntry AllZeroes() { return BitmapTableEntry(0); }
  static constexpr BitmapTableEntry AllOnes() { return BitmapTableEntry(kAllOnes); }
  // `cluster` is cluster-aligned, not 0, and at most kMaxEntryHostOffset.
  static constexpr BitmapTableEntry Cluster(HostOffset cluster) {
    RINGCOW_INVARIANT(cluster.value() != 0 && (cluster.value() & ~kOffsetMask) == 0,
                      "not a bitmap cluster offset");
    return BitmapTableEntry(cluster.value());
  }

  constexpr uint64_t raw() const { return raw_; }
  // Nothing when none is allocated: all its bits are as all_ones says.
  constexpr std::optional<HostOffset> cluster() const {
    const uint64_t offset = raw_ & kOffsetMask;
    return offset == 0 ? std::nullopt : std::optional(HostOffset(offset));
  }
  // Only where there is no cluster.
  constexpr bool all_ones() const { return raw_ == kAllOnes; }
  // No reserved bit, the cluster aligned, and the all-ones flag only where there is no cluster.
  bool IsValid(const Geometry& geometry) const {
    if ((raw_ & kReservedMask) != 0) return false;
    const std::optional<HostOffset> offset = cluster();
    return !offset || (geometry.IsClusterAligned(*offset) && (raw_ & kAllOnes) == 0);
  }

  friend constexpr bool operator==(BitmapTableEntry, BitmapTableEntry) = default;

 private:
  static constexpr uint64_t kOffsetMask = 0x00fffffffffffe00;
  static constexpr uint64_t kAllOnes = 1;
  static constexpr uint64_t kReservedMask = ~(kOffsetMask | kAllOnes);

  constexpr explicit BitmapTableEntry(uint64_t raw) : raw_(raw) {}

  uint64_t raw_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_BITMAP_DIRECTORY_H_
