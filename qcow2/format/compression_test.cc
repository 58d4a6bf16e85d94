#include "qcow2/format/compression.h"

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;

// Bytes that compress about 2:1, and differ with `seed`.
Bytes Text(size_t bytes, uint32_t seed) {
  std::minstd_rand random(seed);
  Bytes text(bytes);
  for (std::byte& byte : text) byte = std::byte{static_cast<uint8_t>('a' + random() / 7 % 13)};
  return text;
}

Bytes Noise(size_t bytes) {
  std::mt19937 random(7);
  Bytes noise(bytes);
  for (std::byte& byte : noise) byte = std::byte{static_cast<uint8_t>(random())};
  return noise;
}

class CompressionTest : public testing::TestWithParam<CompressionType> {
 protected:
  Bytes Compressed(const Bytes& cluster) {
    Bytes out(cluster.size());
    const std::optional<size_t> bytes = compressor_->Compress(cluster, out);
    EXPECT_TRUE(bytes.has_value());
    out.resize(bytes.value_or(0));
    return out;
  }

  std::unique_ptr<ClusterCompressor> compressor_ = *ClusterCompressor::Create(GetParam());
  std::unique_ptr<ClusterDecompressor> decompressor_ = *ClusterDecompressor::Create(GetParam());
};

INSTANTIATE_TEST_SUITE_P(All, CompressionTest,
                         testing::Values(CompressionType::kZlib, CompressionType::kZstd),
                         [](const auto& info) {
                           return info.param == CompressionType::kZlib ? "Zlib" : "Zstd";
                         });

TEST_P(CompressionTest, ReturnsWhatWasCompressed) {
  for (uint32_t bits = kMinClusterBits; bits <= kMaxClusterBits; ++bits) {
    const Bytes cluster = Text(size_t{1} << bits, bits);
    const Bytes compressed = Compressed(cluster);
    EXPECT_LT(compressed.size(), cluster.size());
    Bytes back(cluster.size());
    ASSERT_TRUE(decompressor_->Decompress(compressed, back).ok());
    EXPECT_EQ(back, cluster) << bits;
  }
}

TEST_P(CompressionTest, WhatFollowsTheDataIsIgnored) {
  const Bytes cluster = Text(65536, 1);
  Bytes extent = Compressed(cluster);
  const Bytes noise = Noise(600);
  extent.insert(extent.end(), noise.begin(), noise.end());
  Bytes back(cluster.size());
  ASSERT_TRUE(decompressor_->Decompress(extent, back).ok());
  EXPECT_EQ(back, cluster);
}

TEST_P(CompressionTest, NoiseDoesNotBecomeSmaller) {
  for (const size_t bytes : {512, 65536, 1 << 21}) {
    Bytes out(bytes);
    EXPECT_FALSE(compressor_->Compress(Noise(bytes), out).has_value());
  }
  // The same context goes on working.
  EXPECT_FALSE(Compressed(Text(65536, 1)).empty());
}

TEST_P(CompressionTest, EveryCutIsRefused) {
  const Bytes cluster = Text(2048, 2);
  const Bytes compressed = Compressed(cluster);
  Bytes back(cluster.size());
  // The last bytes of a deflate stream may hold nothing but its end marker.
  const size_t needed = compressed.size() - (GetParam() == CompressionType::kZlib ? 2 : 0);
  for (size_t bytes = 0; bytes < needed; ++bytes) {
    const Bytes cut(compressed.begin(), compressed.begin() + static_cast<ptrdiff_t>(bytes));
    EXPECT_EQ(decompressor_->Decompress(cut, back).code(), absl::StatusCode::kInvalidArgument)
        << bytes;
  }
}

TEST_P(CompressionTest, LessThanAClusterIsRefused) {
  const Bytes compressed = Compressed(Text(32768, 3));
  Bytes back(65536);
  EXPECT_EQ(decompressor_->Decompress(compressed, back).code(), absl::StatusCode::kInvalidArgument);
}

// Each bit flipped: refused, or other bytes, but never out of bounds (the sanitizers watch); and
// the context is not harmed.
TEST_P(CompressionTest, DamageStaysInTheCluster) {
  const Bytes cluster = Text(512, 4);
  const Bytes compressed = Compressed(cluster);
  Bytes back(cluster.size());
  for (size_t bit = 0; bit < compressed.size() * 8; ++bit) {
    Bytes damaged = compressed;
    damaged[bit / 8] ^= std::byte{1} << bit % 8;
    const absl::Status status = decompressor_->Decompress(damaged, back);
    EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kInvalidArgument);
    ASSERT_TRUE(decompressor_->Decompress(compressed, back).ok());
    ASSERT_EQ(back, cluster) << bit;
  }
}

// A stream that goes on is cut, as QEMU does.
TEST(DeflateTest, MoreThanAClusterIsCut) {
  const Bytes twice = Text(8192, 5);
  Bytes compressed(twice.size());
  auto compressor = *ClusterCompressor::Create(CompressionType::kZlib);
  compressed.resize(*compressor->Compress(twice, compressed));
  Bytes back(4096);
  auto decompressor = *ClusterDecompressor::Create(CompressionType::kZlib);
  ASSERT_TRUE(decompressor->Decompress(compressed, back).ok());
  EXPECT_TRUE(std::equal(back.begin(), back.end(), twice.begin()));
}

Bytes ZstdFrame(const Bytes& content) {
  Bytes frame(ZSTD_compressBound(content.size()));
  frame.resize(ZSTD_compress(frame.data(), frame.size(), content.data(), content.size(), 1));
  return frame;
}

TEST(ZstdTest, SeveralFramesMakeACluster) {
  const Bytes cluster = Text(4096, 6);
  Bytes extent = ZstdFrame(Bytes(cluster.begin(), cluster.begin() + 1000));
  for (const Bytes& frame :
       {ZstdFrame({}), ZstdFrame(Bytes(cluster.begin() + 1000, cluster.end()))}) {
    extent.insert(extent.end(), frame.begin(), frame.end());
  }
  Bytes back(cluster.size());
  auto decompressor = *ClusterDecompressor::Create(CompressionType::kZstd);
  ASSERT_TRUE(decompressor->Decompress(extent, back).ok());
  EXPECT_EQ(back, cluster);
}

TEST(ZstdTest, AFrameLargerThanTheClusterIsRefused) {
  Bytes back(4096);
  auto decompressor = *ClusterDecompressor::Create(CompressionType::kZstd);
  EXPECT_FALSE(decompressor->Decompress(ZstdFrame(Text(4097, 7)), back).ok());
}

// A streamed frame does not say its size, and asks for a window of its own.
TEST(ZstdTest, AFrameMayAskForAnyWindow) {
  const Bytes cluster = Text(65536, 8);
  Bytes frame(ZSTD_compressBound(cluster.size()));
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, 27);
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  ZSTD_inBuffer in = {cluster.data(), cluster.size(), 0};
  ZSTD_outBuffer out = {frame.data(), frame.size(), 0};
  ASSERT_EQ(ZSTD_isError(ZSTD_compressStream2(context, &out, &in, ZSTD_e_flush)), 0u);
  ASSERT_EQ(ZSTD_compressStream2(context, &out, &in, ZSTD_e_end), 0u);
  ZSTD_freeCCtx(context);
  ASSERT_EQ(ZSTD_getFrameContentSize(frame.data(), out.pos), ZSTD_CONTENTSIZE_UNKNOWN);

  Bytes back(cluster.size());
  auto decompressor = *ClusterDecompressor::Create(CompressionType::kZstd);
  ASSERT_TRUE(decompressor->Decompress(frame, back).ok());
  EXPECT_EQ(back, cluster);
}

TEST(ZstdTest, ASkippableFrameIsNotData) {
  Bytes extent = {std::byte{0x50}, std::byte{0x2a}, std::byte{0x4d}, std::byte{0x18}};
  extent.resize(8);
  const Bytes frame = ZstdFrame(Text(512, 9));
  extent.insert(extent.end(), frame.begin(), frame.end());
  Bytes back(512);
  auto decompressor = *ClusterDecompressor::Create(CompressionType::kZstd);
  EXPECT_EQ(decompressor->Decompress(extent, back).message(),
            "Compressed cluster is damaged: no zstd frame where one should begin");
}

}  // namespace
}  // namespace ringcow
