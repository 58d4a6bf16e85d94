#ifndef RINGCOW_QCOW2_FORMAT_HEADER_LAYOUT_H_
#define RINGCOW_QCOW2_FORMAT_HEADER_LAYOUT_H_

#include <array>
#include <cstddef>

#include "qcow2/format/big_endian.h"

namespace ringcow {

inline constexpr uint32_t kQcow2Magic = 0x514649fb;  // 'Q' 'F' 'I' 0xfb

// The header as stored at offset 0. Version 2 ends before incompatible_features; version 3 before
// compression_type or later, as header_length says.
struct HeaderOnDisk {
  Be32 magic;
  Be32 version;
  Be64 backing_file_offset;
  Be32 backing_file_size;
  Be32 cluster_bits;
  Be64 size;
  Be32 crypt_method;
  Be32 l1_size;
  Be64 l1_table_offset;
  Be64 refcount_table_offset;
  Be32 refcount_table_clusters;
  Be32 nb_snapshots;
  Be64 snapshots_offset;

  Be64 incompatible_features;
  Be64 compatible_features;
  Be64 autoclear_features;
  Be32 refcount_order;
  Be32 header_length;

  uint8_t compression_type = 0;
  std::array<std::byte, 7> padding{};
};

inline constexpr size_t kHeaderLengthV2 = offsetof(HeaderOnDisk, incompatible_features);
inline constexpr size_t kMinHeaderLengthV3 = offsetof(HeaderOnDisk, compression_type);
inline constexpr size_t kHeaderLengthV3 = sizeof(HeaderOnDisk);
static_assert(kHeaderLengthV2 == 72 && kMinHeaderLengthV3 == 104 && kHeaderLengthV3 == 112);
static_assert(alignof(HeaderOnDisk) == 1);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_HEADER_LAYOUT_H_
