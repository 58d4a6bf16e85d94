#include "qcow2/rebase.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/io_memory.h"
#include "engine/status_macros.h"
#include "qcow2/chain_extent.h"
#include "qcow2/failure_reason.h"
#include "qcow2/format/limits.h"
#include "qcow2/header_update.h"
#include "qcow2/read_header.h"

namespace ringcow {
namespace {

constexpr uint64_t kBytesAtOnce = 2 << 20;  // whole clusters of any size

// What comes behind the end of a backing file reads as zeroes.
Task<absl::Status> ReadPadded(GuestDisk& disk, uint64_t offset, std::span<std::byte> into) {
  const uint64_t there = disk.size() - std::min(offset, disk.size());
  const size_t bytes = std::min<uint64_t>(into.size(), there);
  std::memset(into.data() + bytes, 0, into.size() - bytes);
  if (bytes == 0) co_return absl::OkStatus();
  co_return co_await disk.Read(GuestOffset(offset), into.first(bytes));
}

class Rebase {
 public:
  Rebase(const ImageChain& chain, RebaseOptions options, IoMemory old_bytes, IoMemory new_bytes)
      : chain_(chain),
        image_(*chain.image()),
        options_(std::move(options)),
        old_(std::move(old_bytes)),
        new_(std::move(new_bytes)) {}

  Task<absl::Status> Run();

 private:
  // Bytes that the image does not have itself, in whole units: of a unit it has all, or nothing.
  struct Piece {
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint64_t unit = 0;
    bool compressed = false;  // may be: a unit is a cluster
    bool behind_old = false;  // the old backing file ends before them
  };

  // How many bytes from `offset` on the image has itself; 0, and a piece: none.
  Task<absl::StatusOr<uint64_t>> FindPiece(uint64_t offset, Piece& piece);
  Task<absl::StatusOr<bool>> HasNoneOf(uint64_t offset, uint64_t bytes);
  // Bytes at its beginning that will come from the same layer as before.
  Task<absl::StatusOr<uint64_t>> SharedBytes(Piece piece);
  Task<absl::StatusOr<bool>> StaysZero(Piece piece);
  Task<absl::Status> Compare(Piece piece);
  Task<absl::Status> WriteDifferences(Piece piece);
  Task<absl::Status> Write(Piece piece, std::span<const std::byte> bytes);
  bool Differs(uint64_t begin, uint64_t end) const {
    return std::memcmp(old_.span().data() + begin, new_.span().data() + begin, end - begin) != 0;
  }

  const ImageChain& chain_;
  Image& image_;
  const RebaseOptions options_;
  const IoMemory old_;
  const IoMemory new_;
};

Task<absl::StatusOr<uint64_t>> Rebase::FindPiece(uint64_t offset, Piece& piece) {
  const Geometry& geometry = image_.geometry();
  const uint64_t most = std::min(kBytesAtOnce, image_.size() - offset);
  CO_ASSIGN_OR_RETURN(const GuestExtent extent, co_await image_.Find(GuestOffset(offset), most));
  if (extent.allocated) co_return extent.bytes;
  uint64_t unit = geometry.subcluster_bytes();
  // A cluster of which the image has subclusters already cannot become a compressed one.
  const uint64_t cluster = geometry.cluster_bytes() - offset % geometry.cluster_bytes();
  bool compressed = options_.compresses;
  if (compressed && unit < geometry.cluster_bytes()) {
    const bool is_begin = cluster == geometry.cluster_bytes();
    CO_ASSIGN_OR_RETURN(const bool has_none, co_await HasNoneOf(offset, std::min(cluster, most)));
    compressed = is_begin && has_none;
  }
  if (compressed) unit = geometry.cluster_bytes();
  // Wherever the backing file ends.
  uint64_t bytes = std::min(AlignUp(extent.bytes, unit), most);
  if (unit < geometry.cluster_bytes() && options_.compresses) bytes = std::min(bytes, cluster);
  piece = {offset, bytes, unit, compressed, extent.zero && bytes == extent.bytes};
  co_return uint64_t{0};
}

Task<absl::StatusOr<bool>> Rebase::HasNoneOf(uint64_t offset, uint64_t bytes) {
  for (const uint64_t end = offset + bytes; offset < end;) {
    CO_ASSIGN_OR_RETURN(const GuestExtent extent,
                        co_await image_.Find(GuestOffset(offset), end - offset));
    if (extent.allocated) co_return false;
    offset += extent.bytes;
  }
  co_return true;
}

Task<absl::StatusOr<uint64_t>> Rebase::SharedBytes(Piece piece) {
  if (!options_.depth.has_value() || piece.offset >= chain_.layers()[1].guest->size()) {
    co_return uint64_t{0};
  }
  CO_ASSIGN_OR_RETURN(
      const ChainExtent found,
      co_await FindInChain(chain_, GuestOffset(piece.offset), piece.bytes, /*first_depth=*/1));
  const bool is_all = found.extent.bytes == piece.bytes;
  if (found.depth < *options_.depth) co_return uint64_t{0};
  co_return is_all ? piece.bytes : AlignDown(found.extent.bytes, piece.unit);
}

Task<absl::StatusOr<bool>> Rebase::StaysZero(Piece piece) {
  CO_ASSIGN_OR_RETURN(const bool was_zero,
                      co_await image_.AreKnownZero(GuestOffset(piece.offset), piece.bytes));
  const bool is_behind = options_.backing == nullptr || piece.offset >= options_.backing->size();
  if (!was_zero || is_behind) co_return was_zero;
  const uint64_t there = std::min(piece.bytes, options_.backing->size() - piece.offset);
  co_return co_await options_.backing->AreKnownZero(GuestOffset(piece.offset), there);
}

Task<absl::Status> Rebase::Write(Piece piece, std::span<const std::byte> bytes) {
  const GuestOffset offset(piece.offset);
  // In version 2 that would write nothing where zeroes are read already.
  if (piece.behind_old && image_.geometry().version() >= 3) {
    co_return co_await image_.WriteZeroes(offset, piece.bytes, ZeroManner::kKeepSpace);
  }
  if (piece.compressed) co_return co_await image_.WriteCompressed(offset, bytes);
  co_return co_await image_.Write(offset, bytes);
}

Task<absl::Status> Rebase::WriteDifferences(Piece piece) {
  for (uint64_t begin = 0; begin < piece.bytes;) {
    uint64_t end = std::min(begin + piece.unit, piece.bytes);
    const bool differs = Differs(begin, end);
    while (end < piece.bytes && Differs(end, std::min(end + piece.unit, piece.bytes)) == differs) {
      end = std::min(end + piece.unit, piece.bytes);
    }
    if (differs) {
      Piece part = piece;
      part.offset += begin;
      part.bytes = end - begin;
      CO_RETURN_IF_ERROR(co_await Write(part, old_.span().subspan(begin, end - begin)));
    }
    begin = end;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Rebase::Compare(Piece piece) {
  const absl::StatusOr<bool> stays_zero = co_await StaysZero(piece);
  CO_RETURN_IF_ERROR(FailureOf("error while reading image metadata", stays_zero.status()));
  if (*stays_zero) co_return absl::OkStatus();
  const std::span<std::byte> now = old_.span().first(piece.bytes);
  CO_RETURN_IF_ERROR(FailureOf("error while reading from old backing file",
                               co_await image_.Read(GuestOffset(piece.offset), now)));
  const std::span<std::byte> then = new_.span().first(piece.bytes);
  std::memset(then.data(), 0, then.size());
  if (options_.backing != nullptr) {
    CO_RETURN_IF_ERROR(FailureOf("error while reading from new backing file",
                                 co_await ReadPadded(*options_.backing, piece.offset, then)));
  }
  co_return FailureOf("Error while writing to COW image", co_await WriteDifferences(piece));
}

Task<absl::Status> Rebase::Run() {
  for (uint64_t offset = 0; offset < image_.size();) {
    Piece piece;
    absl::StatusOr<uint64_t> skipped = co_await FindPiece(offset, piece);
    if (skipped.ok() && *skipped == 0) skipped = co_await SharedBytes(piece);
    CO_RETURN_IF_ERROR(FailureOf("error while reading image metadata", skipped.status()));
    if (*skipped == 0) CO_RETURN_IF_ERROR(co_await Compare(piece));
    offset += *skipped == 0 ? piece.bytes : *skipped;
    if (options_.on_progress) options_.on_progress(offset, image_.size());
  }
  co_return absl::OkStatus();
}

}  // namespace

Task<absl::Status> PrepareRebase(const ImageChain& chain, RebaseOptions options) {
  CO_ASSIGN_OR_RETURN(IoMemory old_bytes, IoMemory::Allocate(kBytesAtOnce));
  CO_ASSIGN_OR_RETURN(IoMemory new_bytes, IoMemory::Allocate(kBytesAtOnce));
  Rebase rebase(chain, std::move(options), std::move(old_bytes), std::move(new_bytes));
  co_return co_await rebase.Run();
}

Task<absl::Status> ChangeBackingFile(Disk& disk, std::string name, std::string format) {
  CO_ASSIGN_OR_RETURN(Header header, co_await ReadHeader(disk));
  const bool must_be_alone = header.raw_external_data() && !name.empty();
  if (must_be_alone || name.size() > kMaxBackingFileNameBytes) {
    co_return absl::InvalidArgumentError("Invalid argument");
  }
  header.backing_file = std::move(name);
  header.extensions.backing_format.reset();
  if (!format.empty()) header.extensions.backing_format = std::move(format);
  co_return co_await UpdateHeader(disk, std::move(header));
}

}  // namespace ringcow
