#include "qcow2/copy_on_read_guest.h"

#include <algorithm>
#include <cstring>

#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"

namespace ringcow {
namespace {

constexpr uint64_t kCopiedAtOnce = uint64_t{1} << 20;

}  // namespace

Task<absl::Status> CopyOnReadGuest::Read(GuestOffset offset, std::span<std::byte> into) {
  // Whoever is outside is told so by the disk.
  if (!Has(offset, into.size()) || into.empty()) co_return co_await disk().Read(offset, into);
  const GuestOffset end = std::min(AlignUp(offset + into.size(), unit_), GuestOffset(size()));
  GuestOffset begin = AlignDown(offset, unit_);
  while (begin < end) {
    CO_ASSIGN_OR_RETURN(const GuestExtent extent, co_await disk().Find(begin, end - begin));
    GuestOffset next = begin + extent.bytes;
    if (!extent.allocated) next = std::min(next, begin + kCopiedAtOnce);
    // Of this piece, what was asked for.
    const GuestOffset from = std::max(begin, offset);
    const GuestOffset to = std::max(from, std::min(next, offset + into.size()));
    const std::span<std::byte> wanted = into.subspan(from - offset, to - from);
    CO_RETURN_IF_ERROR(extent.allocated ? co_await disk().Read(from, wanted)
                                        : co_await Copy(begin, next, from, wanted));
    begin = next;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> CopyOnReadGuest::Copy(GuestOffset begin, GuestOffset end, GuestOffset from,
                                         std::span<std::byte> wanted) {
  const AlignedBuffer buffer(end - begin);
  RangeLock::Hold hold(changing_, begin.value(), end.value());
  co_await hold;
  for (GuestOffset at = begin; at < end;) {
    // Somebody may have written to it meanwhile.
    CO_ASSIGN_OR_RETURN(const GuestExtent extent, co_await disk().Find(at, end - at));
    const std::span<std::byte> bytes = buffer.span().subspan(at - begin, extent.bytes);
    CO_RETURN_IF_ERROR(co_await disk().Read(at, bytes));
    if (!extent.allocated) CO_RETURN_IF_ERROR(co_await TakeOver(at, bytes));
    at += extent.bytes;
  }
  std::memcpy(wanted.data(), buffer.data() + (from - begin), wanted.size());
  co_return absl::OkStatus();
}

Task<absl::Status> CopyOnReadGuest::TakeOver(GuestOffset offset, std::span<const std::byte> bytes) {
  if (blkdebug_ != nullptr) co_await blkdebug_->Pass(DebugEvent::kCorWrite);
  if (!AreZeroes(bytes)) co_return co_await disk().Write(offset, bytes);
  co_return co_await disk().WriteZeroes(offset, bytes.size(), ZeroManner::kKeepSpace);
}

Task<absl::Status> CopyOnReadGuest::Write(GuestOffset offset, std::span<const std::byte> from) {
  RangeLock::Hold hold(changing_, offset.value(), offset.value() + from.size());
  co_await hold;
  co_return co_await disk().Write(offset, from);
}

Task<absl::Status> CopyOnReadGuest::WriteCompressed(GuestOffset offset,
                                                    std::span<const std::byte> from) {
  RangeLock::Hold hold(changing_, offset.value(), offset.value() + from.size());
  co_await hold;
  co_return co_await disk().WriteCompressed(offset, from);
}

Task<absl::Status> CopyOnReadGuest::WriteZeroes(GuestOffset offset, uint64_t length,
                                                ZeroManner manner) {
  RangeLock::Hold hold(changing_, offset.value(), offset.value() + length);
  co_await hold;
  co_return co_await disk().WriteZeroes(offset, length, manner);
}

Task<absl::Status> CopyOnReadGuest::Discard(GuestOffset offset, uint64_t length) {
  RangeLock::Hold hold(changing_, offset.value(), offset.value() + length);
  co_await hold;
  co_return co_await disk().Discard(offset, length);
}

}  // namespace ringcow
