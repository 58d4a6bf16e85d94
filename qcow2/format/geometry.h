#ifndef RINGCOW_QCOW2_FORMAT_GEOMETRY_H_
#define RINGCOW_QCOW2_FORMAT_GEOMETRY_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/host_offset.h"
#include "qcow2/format/limits.h"
#include "qcow2/format/units.h"

namespace ringcow {

// The numbers that follow from an image's cluster size, refcount width and virtual size, and the
// splitting of offsets into table indices. Only validated values exist: whoever holds a Geometry
// may index and shift without checking again. Immutable, trivially copyable, thread-safe.
class Geometry {
 public:
  struct Parameters {
    uint32_t version = 3;
    uint32_t cluster_bits = 16;
    uint32_t refcount_order = 4;  // a refcount has 2^refcount_order bits
    uint64_t virtual_size = 0;    // bytes, a multiple of 512
    bool extended_l2 = false;     // L2 entries of 16 bytes instead of 8, with subclusters
  };

  // InvalidArgument in QEMU's words for a version, cluster size, subcluster size or refcount width
  // that does not exist, or a virtual size that is not whole sectors; OutOfRange when the L1 table
  // for the virtual size would exceed kMaxL1Bytes.
  static absl::StatusOr<Geometry> Create(const Parameters& parameters);

  // The same image with another virtual size.
  absl::StatusOr<Geometry> Resized(uint64_t virtual_size) const;

  uint32_t version() const { return version_; }
  uint64_t virtual_size() const { return virtual_size_; }

  uint32_t cluster_bits() const { return cluster_bits_; }
  uint64_t cluster_bytes() const { return uint64_t{1} << cluster_bits_; }

  bool extended_l2() const { return extended_l2_; }
  uint64_t l2_entry_bytes() const { return extended_l2_ ? 16 : 8; }
  // 32 with extended L2 entries, else 1: the cluster is the only subcluster.
  uint32_t subclusters_per_cluster() const { return extended_l2_ ? kSubclustersPerCluster : 1; }
  uint64_t subcluster_bytes() const { return cluster_bytes() / subclusters_per_cluster(); }
  uint32_t l2_bits() const { return l2_bits_; }
  uint64_t l2_entries() const { return uint64_t{1} << l2_bits_; }  // per L2 table
  // Guest bytes that one L2 table (one L1 entry) maps.
  uint64_t bytes_per_l2_table() const { return uint64_t{1} << (cluster_bits_ + l2_bits_); }

  // Guest clusters and L1 entries that cover the virtual size. An image's L1 table may be larger
  // (see Header::l1_entries), never smaller.
  uint64_t guest_clusters() const { return DivideRoundUp(virtual_size_, cluster_bytes()); }
  uint64_t l1_entries() const { return DivideRoundUp(virtual_size_, bytes_per_l2_table()); }
  // What the L1 entries behind those map is no guest's: a virtual machine's state (see VmState).
  GuestOffset vm_state_begin() const { return GuestOffset(l1_entries() * bytes_per_l2_table()); }

  uint32_t refcount_order() const { return refcount_order_; }
  uint32_t refcount_bits() const { return uint32_t{1} << refcount_order_; }
  uint64_t max_refcount() const { return ~uint64_t{0} >> (64 - refcount_bits()); }
  uint32_t refcount_block_bits() const { return cluster_bits_ + 3 - refcount_order_; }
  uint64_t refcount_block_entries() const { return uint64_t{1} << refcount_block_bits(); }
  // Refcount table entries that one cluster of the refcount table holds.
  uint64_t refcount_table_entries_per_cluster() const { return cluster_bytes() / kTableEntryBytes; }
  // Refcount table entries of the largest table allowed (kMaxRefcountTableBytes).
  uint64_t max_refcount_table_entries() const { return kMaxRefcountTableBytes / kTableEntryBytes; }

  // Any GuestOffset; at or beyond the virtual size the L1 index is at or beyond l1_entries().
  uint64_t L1Index(GuestOffset offset) const {
    return offset.value() >> (cluster_bits_ + l2_bits_);
  }
  uint64_t L2Index(GuestOffset offset) const {
    return (offset.value() >> cluster_bits_) & (l2_entries() - 1);
  }
  // The subcluster, within its cluster, that `offset` is in: below subclusters_per_cluster().
  uint32_t SubclusterIndex(GuestOffset offset) const {
    return static_cast<uint32_t>(OffsetInCluster(offset) / subcluster_bytes());
  }
  // The first guest byte that entry `l2_index` of the L2 table at `l1_index` maps.
  GuestOffset GuestOffsetOf(uint64_t l1_index, uint64_t l2_index) const {
    return GuestOffset(((l1_index << l2_bits_) + l2_index) << cluster_bits_);
  }

  uint64_t OffsetInCluster(GuestOffset offset) const { return offset.value() & cluster_mask(); }
  uint64_t OffsetInCluster(HostOffset offset) const { return offset.value() & cluster_mask(); }
  GuestOffset ClusterStart(GuestOffset offset) const { return AlignDown(offset, cluster_bytes()); }
  HostOffset ClusterStart(HostOffset offset) const { return AlignDown(offset, cluster_bytes()); }
  bool IsClusterAligned(HostOffset offset) const { return OffsetInCluster(offset) == 0; }

  // The host cluster that contains `offset`, and the first byte of a host cluster.
  ClusterIndex ClusterOf(HostOffset offset) const {
    return ClusterIndex(offset.value() >> cluster_bits_);
  }
  HostOffset OffsetOf(ClusterIndex cluster) const {
    return HostOffset(cluster.value() << cluster_bits_);
  }
  // Clusters that `bytes` bytes fill, the last perhaps in part.
  uint64_t ClustersFor(uint64_t bytes) const { return DivideRoundUp(bytes, cluster_bytes()); }

  // Where the refcount of a host cluster is kept: the entry of the refcount table, and the entry of
  // the refcount block which that one points to.
  uint64_t RefcountTableIndex(ClusterIndex cluster) const {
    return cluster.value() >> refcount_block_bits();
  }
  uint64_t RefcountBlockIndex(ClusterIndex cluster) const {
    return cluster.value() & (refcount_block_entries() - 1);
  }
  // The first host cluster whose refcount is in the block of refcount table entry `table_index`.
  ClusterIndex FirstClusterOfRefcountBlock(uint64_t table_index) const {
    return ClusterIndex(table_index << refcount_block_bits());
  }

 private:
  Geometry() = default;

  uint64_t cluster_mask() const { return cluster_bytes() - 1; }

  uint64_t virtual_size_ = 0;
  uint32_t version_ = 3;
  uint32_t cluster_bits_ = 0;
  uint32_t l2_bits_ = 0;
  uint32_t refcount_order_ = 0;
  bool extended_l2_ = false;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_GEOMETRY_H_
