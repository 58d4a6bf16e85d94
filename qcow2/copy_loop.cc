#include "qcow2/copy_loop.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/io_memory.h"
#include "engine/scope.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"
#include "qcow2/failure_reason.h"
#include "qcow2/reworded.h"
#include "qcow2/sparse_run.h"

namespace ringcow {
namespace {

absl::Status AtByte(const char* what, uint64_t offset, const absl::Status& status) {
  return FailureOf(absl::StrFormat("error while %s %d", what, offset), status);
}

}  // namespace

bool CopyLoop::IsWritten(CopyPiece::Kind kind) const {
  return kind == CopyPiece::Kind::kData || (kind == CopyPiece::Kind::kZero && options_.fills);
}

// A walk through metadata alone: progress is told in bytes that are really copied.
Task<absl::StatusOr<uint64_t>> CopyLoop::BytesToWrite() {
  uint64_t bytes = 0;
  for (uint64_t at = 0; at < source_.size();) {
    std::vector<Unreadable> unreadable;
    const absl::StatusOr<CopyPiece> piece = co_await Find(at, unreadable);
    Tell(unreadable);
    CO_RETURN_IF_ERROR(AtByte("reading block status at offset", at, piece.status()));
    if (IsWritten(piece->kind)) bytes += piece->bytes;
    at += piece->bytes;
  }
  co_return bytes;
}

Task<absl::Status> CopyLoop::Run() {
  CO_ASSIGN_OR_RETURN(all_, co_await BytesToWrite());
  Scope workers(loop_);
  for (unsigned i = 0; i < options_.parallel; ++i) workers.Spawn(Work());
  co_return co_await workers.Join();
}

Task<absl::Status> CopyLoop::Work() {
  CO_ASSIGN_OR_RETURN(const IoMemory memory, IoMemory::Allocate(options_.request_bytes));
  while (true) {
    absl::StatusOr<Piece> piece = co_await Claim();
    absl::Status status = piece.status();
    if (status.ok() && piece->piece.bytes == 0) co_return status;
    if (status.ok()) status = co_await Copy(*std::move(piece), memory.span());
    if (!status.ok()) {
      failed_ = true;
      turn_changed_.WakeAll();
      co_return status;
    }
  }
}

CopyPiece CopyLoop::InWholeClusters(CopyPiece piece) const {
  const uint64_t cluster = options_.compressed_cluster;
  if (cluster == 0) return piece;
  if (piece.bytes >= cluster) return {piece.kind, AlignDown(piece.bytes, cluster)};
  return {CopyPiece::Kind::kData, std::min(cluster, source_.size() - next_)};
}

Task<absl::StatusOr<CopyPiece>> CopyLoop::Find(uint64_t offset,
                                               std::vector<Unreadable>& unreadable) const {
  uint64_t length = source_.size() - offset;
  while (true) {
    absl::StatusOr<CopyPiece> found = co_await source_.Find(offset, length);
    if (found.ok() || !options_.on_unreadable) co_return found;
    if (length <= kSectorBytes) {
      unreadable.push_back({.is_status = true, .offset = offset, .why = found.status()});
      co_return CopyPiece{CopyPiece::Kind::kData, length};
    }
    // Less of it may be known.
    length = AlignUp(length / 4, kSectorBytes);
  }
}

void CopyLoop::Tell(std::vector<Unreadable>& unreadable) const {
  for (const Unreadable& sector : std::exchange(unreadable, {})) options_.on_unreadable(sector);
}

Task<absl::Status> CopyLoop::ReadOrSalvage(Piece& piece, std::span<std::byte> into) {
  const uint64_t offset = piece.offset;
  const absl::Status status = co_await source_.Read(offset, into);
  if (status.ok() || !options_.on_unreadable) co_return status;
  for (uint64_t at = 0; at < into.size(); at += kSectorBytes) {
    const auto sector = into.subspan(at, std::min<uint64_t>(kSectorBytes, into.size() - at));
    const absl::Status why = co_await source_.Read(offset + at, sector);
    if (why.ok()) continue;
    piece.unreadable.push_back({.offset = offset + at, .why = why});
    std::memset(sector.data(), 0, sector.size());
  }
  co_return absl::OkStatus();
}

Task<absl::StatusOr<CopyLoop::Piece>> CopyLoop::Claim() {
  const Mutex::Guard guard = co_await claiming_.Lock();
  if (failed_ || next_ >= source_.size()) co_return Piece();
  Piece piece;
  piece.offset = next_;
  const absl::StatusOr<CopyPiece> found = co_await Find(next_, piece.unreadable);
  CO_RETURN_IF_ERROR(AtByte("reading block status at offset", next_, found.status()));
  piece.piece = InWholeClusters(*found);
  piece.turn = claims_++;
  if (IsWritten(piece.piece.kind)) {
    piece.piece.bytes = std::min(piece.piece.bytes, options_.request_bytes);
    co_await rate_.Take(piece.piece.bytes);
    done_ += piece.piece.bytes;
    if (options_.on_progress) options_.on_progress(done_, all_);
  }
  next_ += piece.piece.bytes;
  co_return piece;
}

Task<absl::Status> CopyLoop::WaitForTurn(const Piece& piece) {
  while (!options_.out_of_order && turn_ != piece.turn && !failed_) co_await turn_changed_.Wait();
  if (failed_) co_return absl::CancelledError("another request failed");
  co_return absl::OkStatus();
}

void CopyLoop::EndTurn() {
  ++turn_;
  turn_changed_.WakeAll();
}

Task<bool> CopyLoop::CopyOnHost(const Piece& piece) {
  if (options_.host_copy == nullptr || piece.piece.kind != CopyPiece::Kind::kData) co_return false;
  co_return co_await options_.host_copy->Copy(piece.offset, piece.piece.bytes);
}

Task<absl::Status> CopyLoop::Copy(Piece piece, std::span<std::byte> memory) {
  if (co_await CopyOnHost(piece)) {
    CO_RETURN_IF_ERROR(co_await WaitForTurn(piece));
    Tell(piece.unreadable);
    EndTurn();
    co_return absl::OkStatus();
  }
  std::span<std::byte> bytes;
  if (IsWritten(piece.piece.kind)) {
    bytes = memory.first(piece.piece.bytes);
    if (piece.piece.kind == CopyPiece::Kind::kData) {
      CO_RETURN_IF_ERROR(
          AtByte("reading at byte", piece.offset, co_await ReadOrSalvage(piece, bytes)));
    } else {
      std::memset(bytes.data(), 0, bytes.size());
    }
  }
  CO_RETURN_IF_ERROR(co_await WaitForTurn(piece));
  Tell(piece.unreadable);
  // Once they have begun, clusters are allocated in order: others need not wait for their end.
  Scope writing(loop_);
  writing.Spawn(Write(piece, bytes));
  EndTurn();
  co_return AtByte("writing at byte", piece.offset, co_await writing.Join());
}

Task<absl::Status> CopyLoop::Write(const Piece& piece, std::span<const std::byte> bytes) {
  if (piece.piece.kind == CopyPiece::Kind::kBacking) co_return absl::OkStatus();
  if (bytes.empty()) {
    if (options_.target_is_zero) co_return absl::OkStatus();
    co_return co_await target_.WriteZeroes(GuestOffset(piece.offset), piece.piece.bytes,
                                           options_.zero_manner);
  }
  if (options_.compressed_cluster > 0) co_return co_await WriteCompressed(piece.offset, bytes);
  const uint64_t grain = std::bit_floor(std::max<uint64_t>(options_.min_zeroes, kSectorBytes));
  Scope runs(loop_);
  for (uint64_t at = 0; at < bytes.size();) {
    const SparseRun run =
        FirstSparseRun(bytes.subspan(at), piece.offset + at, grain, options_.min_zeroes);
    runs.Spawn(WriteRun(piece.offset + at, bytes.subspan(at, run.bytes), run.zero));
    at += run.bytes;
  }
  co_return co_await runs.Join();
}

Task<absl::Status> CopyLoop::WriteCompressed(uint64_t offset, std::span<const std::byte> bytes) {
  if (options_.min_zeroes > 0 && AreZeroes(bytes)) {
    co_return co_await WriteRun(offset, bytes, /*zero=*/true);
  }
  co_return co_await target_.WriteCompressed(GuestOffset(offset), bytes);
}

Task<absl::Status> CopyLoop::WriteRun(uint64_t offset, std::span<const std::byte> bytes,
                                      bool zero) {
  if (!zero) co_return co_await target_.Write(GuestOffset(offset), bytes);
  if (options_.target_is_zero) co_return absl::OkStatus();
  co_return co_await target_.WriteZeroes(GuestOffset(offset), bytes.size(), options_.zero_manner);
}

}  // namespace ringcow
