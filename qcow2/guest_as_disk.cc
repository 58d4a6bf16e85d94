#include "qcow2/guest_as_disk.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>
#include <utility>

#include "engine/errno_status.h"

namespace ringcow {

GuestAsDisk::GuestAsDisk(Loop& loop, GuestDisk& guest, std::string name)
    : Disk(loop, {.name = std::move(name),
                  .size = guest.size(),
                  .alignment = 1,
                  .memory_alignment = 1,
                  .max_chain = 0}),
      guest_(guest) {}

void GuestAsDisk::Start(Request& request) { StartDetached(CarryOut(request)); }

void GuestAsDisk::StartChain(Chain& chain) {
  for (Request& member : chain.members()) Finish(member, -EOPNOTSUPP);
}

Task<void> GuestAsDisk::CarryOut(Request& request) { Finish(request, co_await ResultOf(request)); }

Task<int64_t> GuestAsDisk::ResultOf(const Request& request) {
  const GuestOffset offset(request.offset.value());
  absl::Status status;
  switch (request.op) {
    case Op::kRead:
    case Op::kWrite:
      co_return co_await Transfer(request);
    case Op::kFdatasync:
      status = co_await guest_.Flush();
      break;
    case Op::kWriteZeroes:
      status = co_await guest_.WriteZeroes(offset, request.length, ZeroManner::kKeepSpace);
      break;
    case Op::kPunch:
      status = co_await guest_.WriteZeroes(offset, request.length, ZeroManner::kMayUnmap);
      break;
    case Op::kTruncate:
      status = co_await guest_.Resize(request.offset.value(), Preallocation::kOff);
      break;
    case Op::kAllocate:
      co_return -EOPNOTSUPP;
  }
  co_return -ErrnoOf(status);
}

Task<int64_t> GuestAsDisk::Transfer(const Request& request) {
  GuestOffset offset(request.offset.value());
  for (const iovec& vector : request.memory()) {
    const uint64_t left = guest_.size() - std::min(guest_.size(), offset.value());
    const std::span<std::byte> bytes(static_cast<std::byte*>(vector.iov_base),
                                     std::min<uint64_t>(vector.iov_len, left));
    if (bytes.empty()) break;
    Task<absl::Status> transfer =
        request.op == Op::kRead ? guest_.Read(offset, bytes) : guest_.Write(offset, bytes);
    const absl::Status status = co_await std::move(transfer);
    if (!status.ok()) co_return -ErrnoOf(status);
    offset += bytes.size();
  }
  const uint64_t done = offset.value() - request.offset.value();
  co_return static_cast<int64_t>(request.op == Op::kRead ? done : request.length);
}

}  // namespace ringcow
