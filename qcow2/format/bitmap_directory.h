#ifndef RINGCOW_QCOW2_FORMAT_BITMAP_DIRECTORY_H_
#define RINGCOW_QCOW2_FORMAT_BITMAP_DIRECTORY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/host_offset.h"
#include "qcow2/format/geometry.h"

namespace ringcow {

inline constexpr uint32_t kMaxBitmaps = 65535;
inline constexpr uint64_t kMaxBitmapTableEntries = uint64_t{1} << 27;
inline constexpr uint64_t kMaxBitmapNameBytes = 1023;

// The header extension that says where an image's persistent dirty bitmaps are.
struct BitmapsExtension {
  uint32_t nb_bitmaps = 0;  // 1 to kMaxBitmaps
  uint64_t directory_bytes = 0;
  HostOffset directory_offset;  // cluster-aligned; directory_bytes behind it there is no overflow
};

// InvalidArgument when `payload` is not such an extension.
absl::StatusOr<BitmapsExtension> ParseBitmapsExtension(std::span<const std::byte> payload,
                                                       const Geometry& geometry);

// An entry of the bitmap directory.
struct BitmapDirectoryEntry {
  HostOffset table_offset;     // cluster-aligned; no table overflows a file offset
  uint32_t table_entries = 0;  // 1 to kMaxBitmapTableEntries, of 8 bytes
  bool in_use = false;         // not written back: its contents are out of date
  bool automatic = false;      // to be kept up to date by whoever writes to the image
  uint8_t granularity_bits = 0;
  std::string name;
};

// Parses all of the directory. InvalidArgument, naming the entry, when an entry does not fit, has
// fields that no version of the format defines, or more or fewer bytes are there than nb_bitmaps
// entries have.
absl::StatusOr<std::vector<BitmapDirectoryEntry>> ParseBitmapDirectory(
    std::span<const std::byte> directory, uint32_t nb_bitmaps, const Geometry& geometry);

// An entry of a bitmap table: where a cluster of the bitmap is.
class BitmapTableEntry {
 public:
  static constexpr BitmapTableEntry FromRaw(uint64_t raw) { return BitmapTableEntry(raw); }

  constexpr uint64_t raw() const { return raw_; }
  // Nothing when none is allocated: all its bits are the same.
  constexpr std::optional<HostOffset> cluster() const {
    const uint64_t offset = raw_ & kOffsetMask;
    return offset == 0 ? std::nullopt : std::optional(HostOffset(offset));
  }
  // No reserved bit, the cluster aligned, and the all-ones flag only where there is no cluster.
  bool IsValid(const Geometry& geometry) const {
    if ((raw_ & kReservedMask) != 0) return false;
    const std::optional<HostOffset> offset = cluster();
    return !offset || (geometry.IsClusterAligned(*offset) && (raw_ & kAllOnes) == 0);
  }

 private:
  static constexpr uint64_t kOffsetMask = 0x00fffffffffffe00;
  static constexpr uint64_t kAllOnes = 1;
  static constexpr uint64_t kReservedMask = ~(kOffsetMask | kAllOnes);

  constexpr explicit BitmapTableEntry(uint64_t raw) : raw_(raw) {}

  uint64_t raw_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_BITMAP_DIRECTORY_H_
