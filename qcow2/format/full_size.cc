#include "qcow2/format/full_size.h"

#include "qcow2/format/limits.h"

namespace ringcow {
namespace {

// Refcount blocks and the refcount table for `others` clusters and for themselves.
uint64_t RefcountClusters(const Geometry& geometry, uint64_t others) {
  uint64_t clusters = 0;
  while (true) {
    const uint64_t blocks = DivideRoundUp(others + clusters, geometry.refcount_block_entries());
    const uint64_t needed =
        blocks + DivideRoundUp(blocks, geometry.refcount_table_entries_per_cluster());
    if (needed == clusters) return clusters;
    clusters = needed;
  }
}

}  // namespace

uint64_t FullImageBytes(const Geometry& geometry) {
  const uint64_t l2_tables = geometry.l1_entries();
  const uint64_t l1_clusters = geometry.ClustersFor(l2_tables * kTableEntryBytes);
  const uint64_t clusters = 1 + l1_clusters + l2_tables + geometry.guest_clusters();
  return (clusters + RefcountClusters(geometry, clusters)) * geometry.cluster_bytes();
}

}  // namespace ringcow
