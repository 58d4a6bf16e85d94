#include "qcow2/compressing_guest.h"

#include <algorithm>
#include <cstring>

#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"

namespace ringcow {

Task<absl::Status> CompressingGuest::Write(GuestOffset offset, std::span<const std::byte> from) {
  if (from.empty() || !Has(offset, from.size())) co_return co_await disk().Write(offset, from);
  co_return co_await Change(offset, from.size(), from, ZeroManner::kKeepSpace);
}

Task<absl::Status> CompressingGuest::WriteZeroes(GuestOffset offset, uint64_t length,
                                                 ZeroManner manner) {
  if (length == 0 || !Has(offset, length)) {
    co_return co_await disk().WriteZeroes(offset, length, manner);
  }
  co_return co_await Change(offset, length, {}, manner);
}

CompressingGuest::Piece CompressingGuest::FirstPiece(GuestOffset offset, uint64_t length,
                                                     std::span<const std::byte> from) const {
  const GuestOffset end = offset + length;
  GuestOffset piece_end = AlignDown(end, cluster_bytes_);
  if (end.value() == size()) piece_end = end;
  if (AlignDown(offset, cluster_bytes_) != offset || piece_end <= offset) {
    piece_end = std::min(end, AlignDown(offset, cluster_bytes_) + cluster_bytes_);
  }
  const uint64_t bytes = piece_end - offset;
  return {offset, bytes, from.empty() ? from : from.first(bytes)};
}

Task<absl::Status> CompressingGuest::Change(GuestOffset offset, uint64_t length,
                                            std::span<const std::byte> from, ZeroManner manner) {
  RangeLock::Hold hold(changing_, AlignDown(offset, cluster_bytes_).value(),
                       AlignUp(offset + length, cluster_bytes_).value());
  co_await hold;
  while (length > 0) {
    const Piece piece = FirstPiece(offset, length, from);
    const GuestOffset end = piece.offset + piece.length;
    const bool is_whole = AlignDown(piece.offset, cluster_bytes_) == piece.offset &&
                          (AlignDown(end, cluster_bytes_) == end || end.value() == size());
    if (!is_whole) {
      CO_RETURN_IF_ERROR(co_await WriteAround(piece));
    } else if (from.empty()) {
      CO_RETURN_IF_ERROR(co_await disk().WriteZeroes(piece.offset, piece.length, manner));
    } else {
      CO_RETURN_IF_ERROR(co_await disk().WriteCompressed(piece.offset, piece.from));
    }
    offset = end;
    length -= piece.length;
    from = from.subspan(piece.from.size());
  }
  co_return absl::OkStatus();
}

Task<absl::Status> CompressingGuest::WriteAround(const Piece& piece) {
  const GuestOffset begin = AlignDown(piece.offset, cluster_bytes_);
  const uint64_t bytes = std::min(cluster_bytes_, size() - begin.value());
  const AlignedBuffer buffer(bytes);
  const std::span<std::byte> cluster = buffer.span().first(bytes);
  CO_RETURN_IF_ERROR(co_await disk().Read(begin, cluster));
  std::byte* const into = cluster.data() + (piece.offset - begin);
  if (piece.from.empty()) {
    std::memset(into, 0, piece.length);
  } else {
    std::memcpy(into, piece.from.data(), piece.length);
  }
  co_return co_await disk().WriteCompressed(begin, cluster);
}

}  // namespace ringcow
