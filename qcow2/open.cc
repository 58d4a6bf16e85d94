#include "qcow2/open.h"

#include <algorithm>

#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/format/unsupported.h"

namespace ringcow {
namespace {

absl::Status CheckWritable(const Header& header) {
  if (header.corrupt()) {
    return absl::FailedPreconditionError("Image is corrupt; cannot be opened read/write");
  }
  if (header.dirty()) {
    return absl::FailedPreconditionError(
        "Image was not closed cleanly and its refcounts must be rebuilt before it can be written "
        "(qemu-img check -r all)");
  }
  return absl::OkStatus();
}

Task<absl::StatusOr<Header>> ReadHeaderCluster(Disk& disk) {
  AlignedBuffer prefix(kBufferAlignment);
  CO_RETURN_IF_ERROR(co_await disk.Read(HostOffset(0), prefix.span(), Content::kHeader));
  const uint64_t in_file = std::min<uint64_t>(disk.size(), prefix.size());
  absl::StatusOr<uint64_t> cluster_bytes = ReadClusterBytes(prefix.span().first(in_file));
  if (!cluster_bytes.ok()) co_return Named(disk, cluster_bytes.status());

  AlignedBuffer cluster(std::max<uint64_t>(*cluster_bytes, prefix.size()));
  CO_RETURN_IF_ERROR(co_await disk.Read(HostOffset(0), cluster.span(), Content::kHeader));
  absl::StatusOr<Header> header = ParseHeader(
      cluster.span().first(std::min<uint64_t>(*cluster_bytes, disk.size())), disk.size());
  if (!header.ok()) co_return Named(disk, header.status());
  co_return header;
}

}  // namespace

Task<absl::StatusOr<ReadHeader>> ReadAndCheckHeader(Disk& disk, bool read_only) {
  CO_ASSIGN_OR_RETURN(const Header header, co_await ReadHeaderCluster(disk));
  CO_RETURN_IF_ERROR(Named(disk, CheckSupported(header)));
  if (!read_only) CO_RETURN_IF_ERROR(Named(disk, CheckWritable(header)));
  CO_ASSIGN_OR_RETURN(const Geometry geometry, GeometryOf(header));
  co_return ReadHeader{header, geometry};
}

Task<absl::Status> ClearAutoclearFeatures(Metadata& metadata) {
  const uint64_t kept = metadata.header.autoclear_features & kMaintainedAutoclearFeatures;
  if (kept == metadata.header.autoclear_features) co_return absl::OkStatus();
  metadata.header.autoclear_features = kept;
  metadata.StoreHeader();
  co_return co_await metadata.write_back.Flush();
}

}  // namespace ringcow
