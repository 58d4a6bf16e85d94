#include "qcow2/growth.h"

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "qcow2/format/units.h"

namespace ringcow {
namespace {

// A quarter of the file at a time, within bounds that keep a small image small and one step short.
constexpr uint64_t kMinStep = uint64_t{1} << 20;
constexpr uint64_t kMaxStep = uint64_t{64} << 20;

// A file that ends inside a page must not be grown by truncation while that page is written: the
// kernel clears the rest of the page in its cache, and an fsync fails with EIO when direct writes
// collide with that.
constexpr uint64_t kPageBytes = 4096;

}  // namespace

Task<absl::Status> Growth::Cover(HostOffset end) {
  if (disk_.size() >= end.value()) co_return absl::OkStatus();
  const Mutex::Guard guard = co_await one_at_a_time_.Lock();
  if (disk_.size() >= end.value()) co_return absl::OkStatus();
  if (manner_ == Manner::kAhead) {
    const uint64_t step = std::clamp(disk_.size() / 4, kMinStep, kMaxStep);
    const uint64_t target = AlignUp(std::max(end.value(), disk_.size() + step), kMinStep);
    const absl::Status status = co_await GrowTo(target);
    if (status.ok()) co_return status;
    // On a nearly full disk what is needed may still fit.
  }
  // Writing a part of the disk's last block makes the disk end with that block: a truncation that
  // is under way meanwhile must not cut into it.
  co_return co_await GrowTo(
      AlignUp(end.value(), std::max<uint64_t>(disk_.alignment(), kPageBytes)));
}

Task<absl::Status> Growth::CoverAhead(HostOffset end) {
  if (disk_.size() >= end.value()) co_return absl::OkStatus();
  if (manner_ != Manner::kAhead) {
    co_return absl::OutOfRangeError(
        absl::StrFormat("'%s' is not to grow beyond what is needed", disk_.name()));
  }
  co_return co_await Cover(end);
}

Task<absl::Status> Growth::GrowTo(uint64_t size) {
  if (manner_ != Manner::kSparse && can_allocate_) {
    const absl::Status status =
        co_await disk_.Allocate(HostOffset(disk_.size()), size - disk_.size());
    if (ErrnoOf(status) != EOPNOTSUPP) co_return status;
    can_allocate_ = false;
  }
  const absl::Status status = co_await disk_.Truncate(size);
  // A block device has the size it has.
  if (ErrnoOf(status) != EINVAL) co_return status;
  co_return ErrnoStatus(ENOSPC, absl::StrFormat("'%s' ends at %d bytes and %d are needed",
                                                disk_.name(), disk_.size(), size));
}

}  // namespace ringcow
