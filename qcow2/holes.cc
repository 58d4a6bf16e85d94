#include "qcow2/holes.h"

#include <algorithm>

#include "engine/status_macros.h"

namespace ringcow {

Task<absl::StatusOr<GuestExtent>> Holes::LookInto(GuestExtent extent) {
  const bool is_data = extent.allocated && !extent.zero && extent.host.has_value();
  if (!is_data || !stored_bytes_.has_value()) co_return extent;
  // What the file has lost is no hole.
  const uint64_t file_bytes = metadata_.data_disk.size();
  if (extent.host->value() >= file_bytes) co_return extent;
  extent.bytes = std::min(extent.bytes, file_bytes - extent.host->value());
  if (!has_many_.has_value()) {
    CO_ASSIGN_OR_RETURN(has_many_, co_await HasMany(*stored_bytes_));
  }
  if (!*has_many_) co_return extent;
  const DiskExtent found = metadata_.data_disk.Find(*extent.host, extent.bytes);
  extent.bytes = std::min(extent.bytes, found.bytes);
  extent.zero = found.hole;
  extent.hole = found.hole;
  co_return extent;
}

Task<absl::StatusOr<bool>> Holes::HasMany(uint64_t stored_bytes) {
  const Geometry& geometry = metadata_.geometry;
  const uint64_t stored = stored_bytes / geometry.cluster_bytes();
  // QEMU's line.
  const uint64_t many = std::max(stored + stored / 9, stored + 2);
  const ClusterIndex end(geometry.ClustersFor(metadata_.disk.size()));
  uint64_t used = 0;
  for (ClusterIndex cluster; cluster < end && used < many;) {
    CO_ASSIGN_OR_RETURN(const Refcounts::Slice slice, co_await refcounts_.SliceOf(cluster));
    const ClusterIndex slice_end = std::min(end, slice.clusters.end());
    for (; slice.has_block() && cluster < slice_end; cluster = cluster + 1) {
      if (refcounts_.Get(slice, cluster) > 0) ++used;
    }
    cluster = slice_end;
  }
  co_return used >= many;
}

}  // namespace ringcow
