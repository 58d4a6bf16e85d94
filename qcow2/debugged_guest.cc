#include "qcow2/debugged_guest.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"

namespace ringcow {

absl::StatusOr<std::unique_ptr<DebuggedGuest>> DebuggedGuest::Open(Loop& loop,
                                                                   std::unique_ptr<GuestDisk> guest,
                                                                   const std::string& name,
                                                                   const BlkdebugOptions& options) {
  auto debugged = absl::WrapUnique(new DebuggedGuest(loop, std::move(guest), name));
  ASSIGN_OR_RETURN(debugged->blkdebug_, BlkdebugDisk::Open(debugged->as_disk_, options));
  debugged->debugged_ = std::make_unique<RawImage>(*debugged->blkdebug_, /*read_only=*/false);
  return debugged;
}

Task<absl::Status> DebuggedGuest::Discard(GuestOffset offset, uint64_t length) {
  const DebugLimits& limits = blkdebug_->options().limits;
  const uint64_t unit = std::max<uint64_t>({limits.opt_discard, limits.align, 1});
  while (length > 0) {
    const uint64_t bytes = FirstPiece(offset.value(), length, unit, limits.max_discard);
    if (bytes >= limits.align) {
      const int error =
          co_await blkdebug_->Fail(DebugIo::kDiscard, HostOffset(offset.value()), bytes);
      if (error != 0) co_return ErrnoStatus(error, "discard");
      CO_RETURN_IF_ERROR(co_await disk().Discard(offset, bytes));
    }
    offset += bytes;
    length -= bytes;
  }
  co_return absl::OkStatus();
}

Task<absl::StatusOr<GuestExtent>> DebuggedGuest::Find(GuestOffset offset, uint64_t length) {
  const int error =
      co_await blkdebug_->Fail(DebugIo::kBlockStatus, HostOffset(offset.value()), length);
  if (error != 0) co_return ErrnoStatus(error, "block status");
  co_return co_await disk().Find(offset, length);
}

Task<absl::Status> DebuggedGuest::Close() {
  absl::Status status = co_await debugged_->Close();
  status.Update(co_await disk().Close());
  co_return status;
}

}  // namespace ringcow
