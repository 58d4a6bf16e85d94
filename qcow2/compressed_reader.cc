#include "qcow2/compressed_reader.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"

namespace ringcow {

Task<absl::Status> CompressedReader::Read(CompressedExtent extent, uint64_t in_cluster,
                                          std::span<std::byte> into) {
  const uint64_t cluster_bytes = metadata_.geometry.cluster_bytes();
  const BufferPool::Buffer stored = buffers_.Get(extent.bytes);
  CO_RETURN_IF_ERROR(co_await metadata_.disk.Read(extent.offset, stored.span()));
  if (into.size() == cluster_bytes) co_return Decompress(extent, stored.span(), into);
  const BufferPool::Buffer cluster = buffers_.Get(cluster_bytes);
  CO_RETURN_IF_ERROR(Decompress(extent, stored.span(), cluster.span()));
  std::memcpy(into.data(), cluster.data() + in_cluster, into.size());
  co_return absl::OkStatus();
}

absl::Status CompressedReader::Decompress(CompressedExtent extent,
                                          std::span<const std::byte> stored,
                                          std::span<std::byte> cluster) {
  if (decompressor_ == nullptr) {
    ASSIGN_OR_RETURN(decompressor_, ClusterDecompressor::Create(metadata_.header.compression_type));
  }
  absl::Status status = decompressor_->Decompress(stored, cluster);
  if (status.ok()) return status;
  return ErrnoStatus(
      EIO, absl::StrFormat("'%s': the compressed cluster at host offset %#x: %s",
                           metadata_.disk.name(), extent.offset.value(), status.message()));
}

}  // namespace ringcow
