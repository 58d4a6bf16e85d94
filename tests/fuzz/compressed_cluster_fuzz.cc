#include <memory>
#include <vector>

#include "qcow2/format/compression.h"
#include "qcow2/format/limits.h"
#include "tests/fuzz/targets.h"

namespace ringcow {
namespace {

// Kept from input to input, as worker threads do: what one leaves behind must not show in the next.
struct Codec {
  explicit Codec(CompressionType type)
      : compressor(*ClusterCompressor::Create(type)),
        decompressor(*ClusterDecompressor::Create(type)) {}

  std::unique_ptr<ClusterCompressor> compressor;
  std::unique_ptr<ClusterDecompressor> decompressor;
};

Codec& CodecOf(CompressionType type) {
  static Codec& zlib = *new Codec(CompressionType::kZlib);
  static Codec& zstd = *new Codec(CompressionType::kZstd);
  return type == CompressionType::kZstd ? zstd : zlib;
}

}  // namespace

void FuzzCompressedCluster(std::span<const std::byte> input) {
  const auto type = static_cast<CompressionType>(Take<uint8_t>(input) % 2);
  // Clusters of at most 64 KiB, for speed.
  const uint32_t cluster_bits = kMinClusterBits + Take<uint8_t>(input) % 8;
  Codec& codec = CodecOf(type);
  std::vector<std::byte> cluster(size_t{1} << cluster_bits);
  // Allocated to measure, so that the sanitizer sees a byte too many.
  const std::vector<std::byte> extent(input.begin(), input.end());
  if (!codec.decompressor->Decompress(extent, cluster).ok()) return;

  std::vector<std::byte> again(cluster.size());
  FUZZ_EXPECT(codec.decompressor->Decompress(extent, again).ok());
  FUZZ_EXPECT(again == cluster);
  std::vector<std::byte> compressed(cluster.size());
  const std::optional<size_t> bytes = codec.compressor->Compress(cluster, compressed);
  if (!bytes.has_value()) return;
  FUZZ_EXPECT(*bytes != 0 && *bytes < cluster.size());
  compressed.resize(*bytes);
  compressed.shrink_to_fit();
  FUZZ_EXPECT(codec.decompressor->Decompress(compressed, again).ok());
  FUZZ_EXPECT(again == cluster);
}

}  // namespace ringcow
