#ifndef RINGCOW_QCOW2_FORMAT_COMPRESSION_H_
#define RINGCOW_QCOW2_FORMAT_COMPRESSION_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qcow2/format/header.h"

namespace ringcow {

// The content of compressed clusters: a raw deflate stream (no zlib header) with a window of 4 KiB,
// or zstd frames. Both classes keep the library's memory from call to call and allocate nothing in
// one. They may move between threads, but one thread uses one at a time. A cluster is
// cluster_bytes() of its image, so a power of two from 512 on.

class ClusterCompressor {
 public:
  // ResourceExhausted when there is no memory for it.
  static absl::StatusOr<std::unique_ptr<ClusterCompressor>> Create(CompressionType type);

  virtual ~ClusterCompressor() = default;
  ClusterCompressor(const ClusterCompressor&) = delete;
  ClusterCompressor& operator=(const ClusterCompressor&) = delete;

  // Compresses `cluster` into `out`, which has cluster.size() bytes, and returns how many of them
  // are used: 1 to cluster.size() - 1. Nothing when it does not become smaller: then it has to be
  // stored as it is, and `out` is undefined.
  virtual std::optional<size_t> Compress(std::span<const std::byte> cluster,
                                         std::span<std::byte> out) = 0;

 protected:
  ClusterCompressor() = default;
};

class ClusterDecompressor {
 public:
  // ResourceExhausted when there is no memory for it.
  static absl::StatusOr<std::unique_ptr<ClusterDecompressor>> Create(CompressionType type);

  virtual ~ClusterDecompressor() = default;
  ClusterDecompressor(const ClusterDecompressor&) = delete;
  ClusterDecompressor& operator=(const ClusterDecompressor&) = delete;

  // Fills all of `cluster` from `extent`, which begins with the compressed data; what follows them
  // (the rest of their last sector, other clusters' data) is not looked at. `extent` may hold
  // anything. InvalidArgument, and undefined bytes in `cluster`, when it yields less than a cluster
  // or is damaged. Neither memory nor time depend on what `extent` says about itself.
  virtual absl::Status Decompress(std::span<const std::byte> extent,
                                  std::span<std::byte> cluster) = 0;

 protected:
  ClusterDecompressor() = default;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_COMPRESSION_H_
