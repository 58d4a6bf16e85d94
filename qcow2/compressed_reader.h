#ifndef RINGCOW_QCOW2_COMPRESSED_READER_H_
#define RINGCOW_QCOW2_COMPRESSED_READER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "engine/buffer_pool.h"
#include "engine/task.h"
#include "qcow2/format/compression.h"
#include "qcow2/format/l2_entry.h"
#include "qcow2/metadata.h"

namespace ringcow {

// Reads compressed clusters.
class CompressedReader {
 public:
  explicit CompressedReader(Metadata& metadata) : metadata_(metadata) {}

  // The bytes of the guest cluster in `extent` from `in_cluster` on. InvalidArgument, naming the
  // place, when it does not decompress to a cluster.
  Task<absl::Status> Read(CompressedExtent extent, uint64_t in_cluster, std::span<std::byte> into);

 private:
  absl::Status Decompress(CompressedExtent extent, std::span<const std::byte> stored,
                          std::span<std::byte> cluster);

  Metadata& metadata_;
  std::unique_ptr<ClusterDecompressor> decompressor_;  // made when it is first needed
  BufferPool buffers_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_COMPRESSED_READER_H_
