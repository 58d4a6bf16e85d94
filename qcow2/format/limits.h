#ifndef RINGCOW_QCOW2_FORMAT_LIMITS_H_
#define RINGCOW_QCOW2_FORMAT_LIMITS_H_

#include <cstdint>

namespace ringcow {

// Bounds on what an image may make us allocate or address. Where the specification leaves room they
// are QEMU's, so that each accepts what the other makes.

inline constexpr uint32_t kMinClusterBits = 9;
inline constexpr uint32_t kMaxClusterBits = 21;
inline constexpr uint32_t kMaxRefcountOrder = 6;

inline constexpr uint64_t kSectorBytes = 512;

// Every entry of the L1 table, of a refcount table, and of an L2 table without subclusters.
inline constexpr uint64_t kTableEntryBytes = 8;

// With extended L2 entries. A subcluster is a sector at least, which sets the smallest cluster.
inline constexpr uint32_t kSubclustersPerCluster = 32;
// The specification allows less, QEMU creates none with less.
inline constexpr uint64_t kMinExtendedL2ClusterBytes = kSectorBytes * kSubclustersPerCluster;
inline constexpr uint32_t kMinExtendedL2ClusterBits = 14;

inline constexpr uint64_t kMaxL1Bytes = uint64_t{32} << 20;
inline constexpr uint64_t kMaxL1Entries = kMaxL1Bytes / kTableEntryBytes;
inline constexpr uint64_t kMaxRefcountTableBytes = uint64_t{8} << 20;

inline constexpr uint32_t kMaxBackingFileNameBytes = 1023;
inline constexpr uint32_t kMaxBackingFormatBytes = 15;

inline constexpr uint64_t kMaxSnapshots = 65536;
inline constexpr uint64_t kSnapshotHeaderBytes = 40;  // the fixed part of one entry
inline constexpr uint64_t kMaxSnapshotTableBytes = 1024 * kMaxSnapshots;

// L1 and L2 entries hold bits 9 to 55 of a host offset.
inline constexpr uint64_t kMaxEntryHostOffset = (uint64_t{1} << 56) - 1;

// No table of an image ends beyond this: file offsets are signed 64-bit numbers.
inline constexpr uint64_t kMaxFileOffset = INT64_MAX;

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_LIMITS_H_
