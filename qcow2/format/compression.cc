#include "qcow2/format/compression.h"

#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>

#include <cstdint>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "engine/invariant.h"

namespace ringcow {
namespace {

// A negative number of window bits means a raw stream. QEMU inflates with a window of 4 KiB.
constexpr int kDeflateWindowBits = -12;
constexpr int kDeflateMemoryLevel = 9;

absl::Status NoMemory() {
  return absl::ResourceExhaustedError("No memory for compressing or decompressing clusters");
}

absl::Status Damaged(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrFormat("Compressed cluster is damaged: %s", what));
}

const Bytef* ZlibInput(std::span<const std::byte> bytes) {
  return reinterpret_cast<const Bytef*>(bytes.data());
}

Bytef* ZlibOutput(std::span<std::byte> bytes) { return reinterpret_cast<Bytef*>(bytes.data()); }

class DeflateCompressor final : public ClusterCompressor {
 public:
  DeflateCompressor()
      : ready_(deflateInit2(&stream_, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kDeflateWindowBits,
                            kDeflateMemoryLevel, Z_DEFAULT_STRATEGY) == Z_OK) {}
  ~DeflateCompressor() override { deflateEnd(&stream_); }

  bool ready() const { return ready_; }

  std::optional<size_t> Compress(std::span<const std::byte> cluster,
                                 std::span<std::byte> out) override {
    const size_t limit = cluster.size() - 1;
    RINGCOW_INVARIANT(out.size() >= limit, "no room for a compressed cluster");
    RINGCOW_INVARIANT(deflateReset(&stream_) == Z_OK, "the deflate stream is broken");
    stream_.next_in = ZlibInput(cluster);
    stream_.avail_in = static_cast<uInt>(cluster.size());
    stream_.next_out = ZlibOutput(out);
    stream_.avail_out = static_cast<uInt>(limit);
    if (deflate(&stream_, Z_FINISH) != Z_STREAM_END) return std::nullopt;
    return limit - stream_.avail_out;
  }

 private:
  z_stream stream_ = {};
  bool ready_;
};

class DeflateDecompressor final : public ClusterDecompressor {
 public:
  DeflateDecompressor() : ready_(inflateInit2(&stream_, kDeflateWindowBits) == Z_OK) {}
  ~DeflateDecompressor() override { inflateEnd(&stream_); }

  bool ready() const { return ready_; }

  absl::Status Decompress(std::span<const std::byte> extent,
                          std::span<std::byte> cluster) override {
    RINGCOW_INVARIANT(inflateReset(&stream_) == Z_OK, "the inflate stream is broken");
    stream_.next_in = ZlibInput(extent);
    stream_.avail_in = static_cast<uInt>(extent.size());
    stream_.next_out = ZlibOutput(cluster);
    stream_.avail_out = static_cast<uInt>(cluster.size());
    // Z_BUF_ERROR says that the stream would go on, or that its end marker was not reached: as in
    // QEMU, a full cluster is what counts.
    const int result = inflate(&stream_, Z_FINISH);
    if (result != Z_STREAM_END && result != Z_BUF_ERROR) {
      return Damaged(stream_.msg != nullptr ? stream_.msg : "not a deflate stream");
    }
    if (stream_.avail_out != 0) {
      return Damaged(absl::StrFormat("it has %d bytes instead of %d",
                                     cluster.size() - stream_.avail_out, cluster.size()));
    }
    return absl::OkStatus();
  }

 private:
  z_stream stream_ = {};
  bool ready_;
};

class ZstdCompressor final : public ClusterCompressor {
 public:
  ZstdCompressor() : context_(ZSTD_createCCtx(), ZSTD_freeCCtx) {}

  bool ready() const { return context_ != nullptr; }

  std::optional<size_t> Compress(std::span<const std::byte> cluster,
                                 std::span<std::byte> out) override {
    const size_t limit = cluster.size() - 1;
    RINGCOW_INVARIANT(out.size() >= limit, "no room for a compressed cluster");
    const size_t bytes =
        ZSTD_compress2(context_.get(), out.data(), limit, cluster.data(), cluster.size());
    return ZSTD_isError(bytes) != 0 ? std::nullopt : std::optional(bytes);
  }

 private:
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context_;
};

// Frame by frame straight into the cluster, not as a stream: a stream needs a buffer of the window
// size that the frame asks for, and a frame may ask for 128 MiB.
class ZstdDecompressor final : public ClusterDecompressor {
 public:
  ZstdDecompressor() : context_(ZSTD_createDCtx(), ZSTD_freeDCtx) {}

  bool ready() const { return context_ != nullptr; }

  absl::Status Decompress(std::span<const std::byte> extent,
                          std::span<std::byte> cluster) override {
    size_t done = 0;
    while (done < cluster.size()) {
      // The library would read frames of its old formats too, which no image has.
      if (!BeginsWithFrame(extent)) return Damaged("no zstd frame where one should begin");
      const size_t frame_bytes = ZSTD_findFrameCompressedSize(extent.data(), extent.size());
      if (ZSTD_isError(frame_bytes) != 0) return Damaged(ZSTD_getErrorName(frame_bytes));
      const std::span<std::byte> rest = cluster.subspan(done);
      const size_t bytes =
          ZSTD_decompressDCtx(context_.get(), rest.data(), rest.size(), extent.data(), frame_bytes);
      if (ZSTD_isError(bytes) != 0) return Damaged(ZSTD_getErrorName(bytes));
      done += bytes;
      extent = extent.subspan(frame_bytes);
    }
    return absl::OkStatus();
  }

 private:
  static bool BeginsWithFrame(std::span<const std::byte> bytes) {
    if (bytes.size() < sizeof(uint32_t)) return false;
    const auto byte = [&bytes](size_t i) { return static_cast<uint32_t>(bytes[i]); };
    return (byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24) == ZSTD_MAGICNUMBER;
  }

  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context_;
};

template <typename Base, typename Codec>
absl::StatusOr<std::unique_ptr<Base>> Ready(std::unique_ptr<Codec> codec) {
  if (!codec->ready()) return NoMemory();
  return std::unique_ptr<Base>(std::move(codec));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ClusterCompressor>> ClusterCompressor::Create(CompressionType type) {
  if (type == CompressionType::kZstd) {
    return Ready<ClusterCompressor>(std::make_unique<ZstdCompressor>());
  }
  return Ready<ClusterCompressor>(std::make_unique<DeflateCompressor>());
}

absl::StatusOr<std::unique_ptr<ClusterDecompressor>> ClusterDecompressor::Create(
    CompressionType type) {
  if (type == CompressionType::kZstd) {
    return Ready<ClusterDecompressor>(std::make_unique<ZstdDecompressor>());
  }
  return Ready<ClusterDecompressor>(std::make_unique<DeflateDecompressor>());
}

}  // namespace ringcow
