#include "qcow2/guest_as_disk.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>
#include <utility>

#include "engine/errno_status.h"
#include "qcow2/format/limits.h"
#include "qcow2/format/units.h"

namespace ringcow {

GuestAsDisk::GuestAsDisk(Loop& loop, GuestDisk& guest, std::string name, BeyondEnd beyond_end)
    : StackedDisk(
          loop,
          {.name = std::move(name), .size = guest.size(), .alignment = 1, .memory_alignment = 1}),
      guest_(guest),
      beyond_end_(beyond_end),
      growing_(loop) {}

Task<int64_t> GuestAsDisk::ResultOf(Request& request) {
  switch (request.op) {
    case Op::kRead:
    case Op::kWrite:
      co_return co_await Transfer(request);
    case Op::kFdatasync:
      co_return -ErrorOf(co_await guest_.Flush());
    case Op::kWriteZeroes:
    case Op::kPunch:
      co_return co_await Zero(request);
    case Op::kTruncate:
      co_return -co_await ResizeGuest(request.offset.value());
    case Op::kAllocate:
      break;
  }
  co_return -EOPNOTSUPP;
}

Task<int64_t> GuestAsDisk::Transfer(const Request& request) {
  const bool is_write = request.op == Op::kWrite;
  if (is_write) {
    if (const int error = co_await MakeRoom(request); error != 0) co_return -error;
  }
  GuestOffset offset(request.offset.value());
  // The end is where it is now: what lies behind it is not looked at, should it grow meanwhile.
  uint64_t left = guest_.size() - std::min(guest_.size(), offset.value());
  for (const iovec& vector : request.memory()) {
    const std::span<std::byte> bytes(static_cast<std::byte*>(vector.iov_base),
                                     std::min<uint64_t>(vector.iov_len, left));
    if (bytes.empty()) break;
    Task<absl::Status> transfer =
        is_write ? guest_.Write(offset, bytes) : guest_.Read(offset, bytes);
    const absl::Status status = co_await std::move(transfer);
    if (!status.ok()) co_return -ErrorOf(status);
    offset += bytes.size();
    left -= bytes.size();
  }
  if (request.dsync) {
    if (const int error = ErrorOf(co_await guest_.Flush()); error != 0) co_return -error;
  }
  const uint64_t done = offset.value() - request.offset.value();
  co_return static_cast<int64_t>(is_write ? request.length : done);
}

Task<int64_t> GuestAsDisk::Zero(const Request& request) {
  const bool is_punch = request.op == Op::kPunch;
  if (request.length == 0) co_return -EINVAL;
  if (!is_punch) {
    if (const int error = co_await MakeRoom(request); error != 0) co_return -error;
  }
  // A punch makes nothing longer.
  const uint64_t begin = request.offset.value();
  const uint64_t end = std::min(request.end().value(), guest_.size());
  if (begin >= end) co_return 0;
  const ZeroManner manner = is_punch ? ZeroManner::kMayUnmap : ZeroManner::kKeepSpace;
  co_return -ErrorOf(co_await guest_.WriteZeroes(GuestOffset(begin), end - begin, manner));
}

// What has a fixed size refuses another as a block device does.
Task<int> GuestAsDisk::ResizeGuest(uint64_t bytes) {
  const uint64_t end = AlignUp(bytes, kSectorBytes);
  const bool shrinks = bytes < guest_.size();
  const absl::Status status = co_await guest_.Resize(end, Preallocation::kOff);
  if (!status.ok()) co_return HasErrno(status) ? ErrnoOf(status) : EINVAL;
  if (!shrinks || end == bytes) co_return 0;
  // The rest of the sector was cut off, and must not come back.
  co_return ErrorOf(
      co_await guest_.WriteZeroes(GuestOffset(bytes), end - bytes, ZeroManner::kKeepSpace));
}

Task<int> GuestAsDisk::MakeRoom(const Request& request) {
  const uint64_t end = request.end().value();
  if (beyond_end_ == BeyondEnd::kLost || end <= guest_.size()) co_return 0;
  // One at a time: the smaller of two new sizes would cut off what is behind it.
  const Mutex::Guard guard = co_await growing_.Lock();
  if (end <= guest_.size()) co_return 0;
  const int error = co_await ResizeGuest(end);
  co_return error == EINVAL ? ENOSPC : error;
}

int GuestAsDisk::ErrorOf(const absl::Status& status) {
  if (!status.ok() && !HasErrno(status)) damage_.Update(status);
  return ErrnoOf(status);
}

}  // namespace ringcow
