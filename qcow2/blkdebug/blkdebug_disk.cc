#include "qcow2/blkdebug/blkdebug_disk.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"

namespace ringcow {
namespace {

std::optional<DebugEvent> EventOfRead(Content content) {
  switch (content) {
    case Content::kData:
      return DebugEvent::kReadAio;
    case Content::kL2:
      return DebugEvent::kL2Load;
    case Content::kRefcountTable:
      return DebugEvent::kReftableLoad;
    default:
      return std::nullopt;
  }
}

std::optional<DebugEvent> EventOfWrite(Content content) {
  switch (content) {
    case Content::kData:
      return DebugEvent::kWriteAio;
    case Content::kL1:
      return DebugEvent::kL1Update;
    case Content::kL2:
      return DebugEvent::kL2Update;
    case Content::kRefcountTable:
      return DebugEvent::kReftableUpdate;
    case Content::kRefcountBlock:
      return DebugEvent::kRefblockUpdatePart;
    default:
      return std::nullopt;
  }
}

// `length` bytes of `memory` behind its first `skip`.
std::vector<iovec> Part(std::span<const iovec> memory, uint64_t skip, uint64_t length) {
  std::vector<iovec> part;
  for (const iovec& vector : memory) {
    const uint64_t skipped = std::min<uint64_t>(skip, vector.iov_len);
    const uint64_t taken = std::min<uint64_t>(length, vector.iov_len - skipped);
    skip -= skipped;
    length -= taken;
    if (taken > 0) part.push_back({static_cast<std::byte*>(vector.iov_base) + skipped, taken});
  }
  return part;
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlkdebugDisk>> BlkdebugDisk::Open(Disk& below,
                                                                 const BlkdebugOptions& options) {
  ASSIGN_OR_RETURN(DebugRules rules, LoadDebugRules(options));
  RETURN_IF_ERROR(options.limits.Validate(below.alignment()));
  auto disk = absl::WrapUnique(new BlkdebugDisk(below, std::move(rules), options));
  disk->Happened(DebugEvent::kNone);
  return disk;
}

BlkdebugDisk::BlkdebugDisk(Disk& below, DebugRules rules, const BlkdebugOptions& options)
    : StackedDisk(
          below.loop(),
          {.name = below.name(),
           .size = below.size(),
           .alignment = std::max(below.alignment(), static_cast<uint32_t>(options.limits.align)),
           .memory_alignment = 1,  // the one below has its own, and copies where it must
           .max_chain = below.max_chain()}),
      below_(below),
      options_(options),
      machine_(std::move(rules)),
      breakpoints_(below.loop()) {}

Task<int64_t> BlkdebugDisk::ResultOf(Request& request) {
  switch (request.op) {
    case Op::kRead:
    case Op::kWrite:
      co_return co_await Transfer(request);
    case Op::kWriteZeroes:
    case Op::kPunch:
      co_return co_await Zero(request);
    case Op::kFdatasync:
      co_return co_await Synchronize();
    case Op::kAllocate:
      co_return -ErrnoOf(co_await below_.Allocate(request.offset, request.length));
    case Op::kTruncate:
      co_return -ErrnoOf(co_await below_.Truncate(request.offset.value()));
  }
  co_return -EOPNOTSUPP;
}

Task<int64_t> BlkdebugDisk::Transfer(const Request& request) {
  const bool is_read = request.op == Op::kRead;
  const auto event = is_read ? EventOfRead(request.content) : EventOfWrite(request.content);
  if (event.has_value()) co_await Pass(*event);
  if (!is_read) co_await Pass(DebugEvent::kPwritev);
  int error = 0;
  for (uint64_t done = 0; done < request.length && error == 0;) {
    const HostOffset offset = request.offset + done;
    const uint64_t bytes =
        FirstPiece(offset.value(), request.length - done, /*unit=*/1, options_.limits.max_transfer);
    const std::vector<iovec> memory = Part(request.memory(), done, bytes);
    error = co_await Fail(is_read ? DebugIo::kRead : DebugIo::kWrite, offset, bytes);
    if (error != 0) break;
    IoAwaiter transfer = is_read ? below_.ReadV(offset, memory, request.content)
                                 : below_.WriteV(offset, memory, request.content);
    (void)co_await transfer;  // told by the one above, with its own offset and length
    error = transfer.error();
    done += bytes;
  }
  if (error == 0 && request.dsync) error = ErrnoOf(co_await below_.Fdatasync());
  if (!is_read) co_await Pass(DebugEvent::kPwritevDone);
  if (error == 0) co_return static_cast<int64_t>(request.length);
  // What failed in the end may have made the disk below longer.
  FollowSize(below_.size());
  co_return -error;
}

// Zeroing, and punching, which zeroes as well.
Task<int64_t> BlkdebugDisk::Zero(const Request& request) {
  const bool is_punch = request.op == Op::kPunch;
  const DebugIo io = is_punch ? DebugIo::kDiscard : DebugIo::kWriteZeroes;
  const uint64_t optimum = is_punch ? options_.limits.opt_discard : options_.limits.opt_write_zero;
  const uint64_t unit = std::max<uint64_t>({optimum, options_.limits.align, 1});
  const uint64_t max = is_punch ? options_.limits.max_discard : options_.limits.max_write_zero;
  if (!is_punch) co_await Pass(DebugEvent::kPwritevZero);
  int error = request.length == 0 ? EINVAL : 0;
  for (uint64_t done = 0; done < request.length && error == 0;) {
    const HostOffset offset = request.offset + done;
    const uint64_t bytes = FirstPiece(offset.value(), request.length - done, unit, max);
    const bool is_whole = offset.value() % unit == 0 && bytes % unit == 0;
    error = co_await Fail(is_whole ? io : DebugIo::kWrite, offset, bytes);
    if (error != 0) break;
    absl::Status status;
    if (!is_whole) {
      status = co_await WriteZeroBytes(below_, offset, bytes);
    } else if (is_punch) {
      status = co_await below_.Punch(offset, bytes);
    } else {
      status = co_await below_.WriteZeroes(offset, bytes, request.content);
    }
    error = ErrnoOf(status);
    done += bytes;
  }
  if (!is_punch) co_await Pass(DebugEvent::kPwritevDone);
  co_return -error;
}

Task<int64_t> BlkdebugDisk::Synchronize() {
  co_await Pass(DebugEvent::kFlushToDisk);
  const int error = co_await Fail(DebugIo::kFlush, HostOffset(0), 0);
  co_return error != 0 ? -error : -ErrnoOf(co_await below_.Fdatasync());
}

Task<int> BlkdebugDisk::Fail(DebugIo io, HostOffset offset, uint64_t length) {
  const std::optional<DebugFault> fault = machine_.FaultOf(io, offset.value(), length);
  if (!fault.has_value()) co_return 0;
  if (!fault->immediately) co_await loop().Yield();
  co_return fault->error;
}

Task<void> BlkdebugDisk::Pass(DebugEvent event) {
  machine_.Happened(event);
  co_await breakpoints_.Pass(event);
}

}  // namespace ringcow
