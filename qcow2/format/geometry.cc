#include "qcow2/format/geometry.h"

#include <bit>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "engine/status_macros.h"

namespace ringcow {

absl::StatusOr<Geometry> Geometry::Create(const Parameters& parameters) {
  if (parameters.version < 2 || parameters.version > 3) {
    return absl::UnimplementedError(
        absl::StrFormat("Unsupported qcow2 version %d", parameters.version));
  }
  if (parameters.cluster_bits < kMinClusterBits || parameters.cluster_bits > kMaxClusterBits) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Unsupported cluster size: 2^%d", parameters.cluster_bits));
  }
  if (parameters.extended_l2 && parameters.cluster_bits < kMinExtendedL2ClusterBits) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Unsupported subcluster size: %d",
                        (uint64_t{1} << parameters.cluster_bits) / kSubclustersPerCluster));
  }
  if (parameters.refcount_order > kMaxRefcountOrder) {
    return absl::InvalidArgumentError(
        "Reference count entry width too large; may not exceed 64 bits");
  }
  Geometry geometry;
  geometry.version_ = parameters.version;
  geometry.cluster_bits_ = parameters.cluster_bits;
  geometry.extended_l2_ = parameters.extended_l2;
  geometry.l2_bits_ = parameters.cluster_bits - std::countr_zero(geometry.l2_entry_bytes());
  geometry.refcount_order_ = parameters.refcount_order;
  return geometry.Resized(parameters.virtual_size);
}

absl::StatusOr<Geometry> Geometry::Resized(uint64_t virtual_size) const {
  if (!IsAligned(virtual_size, kSectorBytes)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "Image size must be a multiple of %d bytes (it is %d)", kSectorBytes, virtual_size));
  }
  Geometry resized = *this;
  resized.virtual_size_ = virtual_size;
  if (resized.l1_entries() > kMaxL1Entries) {
    return absl::OutOfRangeError(absl::StrFormat(
        "Image is too big: %d bytes in clusters of %d bytes need an L1 table of more than %d bytes",
        virtual_size, cluster_bytes(), kMaxL1Bytes));
  }
  return resized;
}

}  // namespace ringcow
