#include "qcow2/void_disk.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

using Clock = std::chrono::steady_clock;

// The loop has no clock: it gets a turn every millisecond.
Task<void> SleepUntil(Loop& loop, Clock::time_point until) {
  while (Clock::now() < until) {
    co_await loop.Yield();
    const Clock::duration left = std::max(until - Clock::now(), Clock::duration::zero());
    std::this_thread::sleep_for(std::min<Clock::duration>(left, std::chrono::milliseconds(1)));
  }
}

}  // namespace

absl::StatusOr<VoidDiskOptions> TakeVoidDiskOptions(ImageDescription& options) {
  VoidDiskOptions taken;
  for (const char* name : {"size", "read-zeroes"}) {
    const auto found = options.options().find(name);
    if (found != options.options().end()) taken.given.insert(*found);
  }
  ASSIGN_OR_RETURN(const std::optional<uint64_t> bytes, options.TakeBytes("size"));
  taken.bytes = bytes.value_or(taken.bytes);
  if (taken.bytes > std::numeric_limits<int64_t>::max()) {
    return absl::InvalidArgumentError("size is invalid");
  }
  if (const std::optional<std::string> latency = options.Take("latency-ns")) {
    int64_t nanoseconds = 0;
    if (!absl::SimpleAtoi(*latency, &nanoseconds)) {
      return absl::InvalidArgumentError("Parameter 'latency-ns' expects a number");
    }
    if (nanoseconds < 0) return absl::InvalidArgumentError("latency-ns is invalid");
    taken.latency = std::chrono::nanoseconds(nanoseconds);
  }
  ASSIGN_OR_RETURN(const std::optional<bool> zeroes, options.TakeFlag("read-zeroes"));
  taken.is_known_zero = zeroes.value_or(false);
  return taken;
}

VoidDisk::VoidDisk(Loop& loop, const VoidDiskOptions& options)
    : StackedDisk(loop,
                  {.name = "null", .size = options.bytes, .alignment = 1, .memory_alignment = 1}),
      options_(options) {}

DiskExtent VoidDisk::Find(HostOffset /*offset*/, uint64_t length) const {
  return {.bytes = length, .hole = options_.is_known_zero};
}

Task<int64_t> VoidDisk::ResultOf(Request& request) {
  // A latency of centuries must not become a time that has passed.
  const auto latency = std::min<Clock::duration>(options_.latency, std::chrono::hours(24));
  if (latency.count() > 0) co_await SleepUntil(loop(), Clock::now() + latency);
  const bool fits =
      request.offset.value() <= size() && request.length <= size() - request.offset.value();
  switch (request.op) {
    case Op::kRead:
      for (const iovec& vector : request.memory()) std::memset(vector.iov_base, 0, vector.iov_len);
      co_return static_cast<int64_t>(request.length);
    case Op::kWrite:
    case Op::kWriteZeroes:
    case Op::kAllocate:
      co_return fits ? static_cast<int64_t>(request.length) : -ENOSPC;
    case Op::kPunch:
    case Op::kFdatasync:
      co_return 0;
    case Op::kTruncate:
      co_return request.offset.value() == size() ? 0 : -EINVAL;
  }
  co_return -EOPNOTSUPP;
}

}  // namespace ringcow
