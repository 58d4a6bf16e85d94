#ifndef RINGCOW_QCOW2_FORMAT_HEADER_H_
#define RINGCOW_QCOW2_FORMAT_HEADER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/host_offset.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header_extension.h"

namespace ringcow {

enum class CryptMethod : uint32_t { kNone = 0, kAes = 1, kLuks = 2 };
enum class CompressionType : uint8_t { kZlib = 0, kZstd = 1 };

// The header, its extensions and the backing file name: all that the first cluster holds. In host
// byte order. The defaults are those of a fresh version 3 image.
struct Header {
  uint32_t version = 3;
  uint32_t cluster_bits = 16;
  uint32_t refcount_order = 4;  // always 4 in version 2
  uint64_t virtual_size = 0;    // "size" in the specification, bytes
  CryptMethod crypt_method = CryptMethod::kNone;
  CompressionType compression_type = CompressionType::kZlib;

  HostOffset l1_table_offset = HostOffset(0);
  uint32_t l1_entries = 0;  // "l1_size" in the specification
  HostOffset refcount_table_offset = HostOffset(0);
  uint32_t refcount_table_clusters = 0;
  HostOffset snapshots_offset = HostOffset(0);
  uint32_t nb_snapshots = 0;

  // All 0 in version 2.
  uint64_t incompatible_features = 0;
  uint64_t compatible_features = 0;
  uint64_t autoclear_features = 0;

  // Bytes 105 to 111, undefined as yet, and what a longer header has behind byte 112: kept byte for
  // byte, as the specification asks for unknown fields.
  std::array<std::byte, 7> padding{};
  std::vector<std::byte> unknown_fields;

  std::string backing_file;  // empty: none. As stored: a path, or a "json:" description
  HeaderExtensions extensions;

  uint64_t cluster_bytes() const { return uint64_t{1} << cluster_bits; }
  uint64_t l1_table_bytes() const { return uint64_t{l1_entries} * kTableEntryBytes; }
  uint64_t refcount_table_bytes() const {
    return uint64_t{refcount_table_clusters} << cluster_bits;
  }
  uint64_t refcount_table_entries() const { return refcount_table_bytes() / kTableEntryBytes; }
  bool dirty() const { return (incompatible_features & kIncompatibleDirty) != 0; }
  bool corrupt() const { return (incompatible_features & kIncompatibleCorrupt) != 0; }
  bool extended_l2() const { return (incompatible_features & kIncompatibleExtendedL2) != 0; }
  bool lazy_refcounts() const { return (compatible_features & kCompatibleLazyRefcounts) != 0; }
  // Guest data is in a file of its own; and that file by itself is the disk.
  bool external_data() const {
    return (incompatible_features & kIncompatibleExternalDataFile) != 0;
  }
  bool raw_external_data() const { return (autoclear_features & kAutoclearRawExternalData) != 0; }
  // Whether the bitmaps extension, if there is one, is not out of date.
  bool bitmaps_valid() const { return (autoclear_features & kAutoclearBitmaps) != 0; }
};

// How strict ParseHeader is about what a repair could mend: check and repair must be able to look
// at an image whose refcount table is missing or whose snapshot table is out of bounds.
enum class HeaderChecks { kForIo, kForRepair };

// How many of a file's first bytes (or all, when there are fewer) ReadClusterBytes needs.
inline constexpr size_t kHeaderPrefixBytes = 512;

// The cluster size of the image that begins with `prefix`: as many bytes ParseHeader has to be
// given. Fails exactly like ParseHeader for what is not qcow2.
absl::StatusOr<uint64_t> ReadClusterBytes(std::span<const std::byte> prefix);

// Parses and validates the first cluster. `header_cluster` holds the file's first
// min(cluster size, file_size) bytes or more; `file_size` is that of the file or block device.
// After success: every offset is cluster-aligned, every table is within the bounds of limits.h and
// lies inside the file, no two sizes overflow, and GeometryOf succeeds. Fails with
//   InvalidArgument  what contradicts the format ("Image is not in qcow2 format", ...)
//   Unimplemented    an unknown version, compression type or incompatible feature, by name
//   OutOfRange       a table or the image larger than the limits
// in QEMU's words where it has them. Does not refuse known features this build lacks: that is
// CheckSupported. HeaderChecks::kForRepair leaves the refcount table and the snapshot table out of
// this promise, and kForIo a refcount table at offset 0, where the header is: as QEMU lets it.
absl::StatusOr<Header> ParseHeader(std::span<const std::byte> header_cluster, uint64_t file_size,
                                   HeaderChecks checks = HeaderChecks::kForIo);

// The whole first cluster (cluster_bytes() bytes, zero-filled behind the content), laid out as QEMU
// lays it out: header (72 bytes in version 2, 112 and the unknown fields in version 3), extensions,
// backing file name. A header is changed by parsing it, changing fields and writing all of the
// cluster: nothing else may be in it, and what is not known is kept. The feature name table,
// version 3 only, is left out in clusters of 4 KiB or less, where it would take the room of a
// backing file name. OutOfRange when it does not fit.
absl::StatusOr<std::vector<std::byte>> SerializeHeader(const Header& header);

// The geometry of a parsed header. A virtual size that is not whole sectors is rounded down, as
// QEMU does.
absl::StatusOr<Geometry> GeometryOf(const Header& header);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_HEADER_H_
