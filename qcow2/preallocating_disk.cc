#include "qcow2/preallocating_disk.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/format/limits.h"

namespace ringcow {
namespace {

// The first `length` bytes of `memory`.
std::vector<iovec> First(std::span<const iovec> memory, uint64_t length) {
  std::vector<iovec> first;
  for (const iovec& vector : memory) {
    const uint64_t taken = std::min<uint64_t>(length, vector.iov_len);
    if (taken > 0) first.push_back({vector.iov_base, taken});
    length -= taken;
  }
  return first;
}

}  // namespace

absl::StatusOr<PreallocationOptions> TakePreallocationOptions(ImageDescription& options) {
  PreallocationOptions taken;
  ASSIGN_OR_RETURN(const std::optional<uint64_t> align, options.TakeBytes("prealloc-align"));
  ASSIGN_OR_RETURN(const std::optional<uint64_t> bytes, options.TakeBytes("prealloc-size"));
  taken.align = align.value_or(taken.align);
  taken.bytes = bytes.value_or(taken.bytes);
  if (taken.align == 0 || taken.align % kSectorBytes != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "prealloc-align parameter of preallocate filter is not aligned to %d", kSectorBytes));
  }
  return taken;
}

PreallocatingDisk::PreallocatingDisk(Disk& below, const PreallocationOptions& options)
    : StackedDisk(below.loop(), {.name = below.name(),
                                 .size = below.size(),
                                 .alignment = below.alignment(),
                                 .memory_alignment = 1,  // the one below copies where it must
                                 .max_chain = below.max_chain()}),
      below_(below),
      options_(options),
      reserving_(below.loop()) {}

Task<absl::Status> PreallocatingDisk::Close() {
  if (below_.size() <= size()) co_return absl::OkStatus();
  co_return co_await below_.Truncate(size());
}

Task<int64_t> PreallocatingDisk::ResultOf(Request& request) {
  const bool grows =
      request.op == Op::kWrite || request.op == Op::kWriteZeroes || request.op == Op::kAllocate;
  if (grows) co_await ReserveAhead(request);
  const int64_t result = co_await Forward(request);
  // Some of its bytes may be there, and must not appear later in what was never written.
  if (grows && result < 0) FollowSize(std::min(request.end().value(), below_.size()));
  co_return result;
}

Task<int64_t> PreallocatingDisk::Forward(const Request& request) {
  if (request.op == Op::kRead) co_return co_await ReadInside(request);
  const absl::Status status = co_await ForwardChange(below_, request);
  co_return status.ok() ? static_cast<int64_t>(request.length) : -ErrnoOf(status);
}

Task<int64_t> PreallocatingDisk::ReadInside(const Request& request) {
  const uint64_t end = size() - std::min(size(), request.offset.value());
  const std::vector<iovec> memory = First(request.memory(), end);
  if (memory.empty()) co_return 0;
  IoAwaiter read = below_.ReadV(request.offset, memory, request.content);
  (void)co_await read;  // told by the one above, with its own offset and length
  co_return read.error() != 0 ? -read.error() : static_cast<int64_t>(std::min(request.length, end));
}

// Where that fails the request itself may still fit.
Task<void> PreallocatingDisk::ReserveAhead(const Request& request) {
  if (request.end().value() <= below_.size()) co_return;
  const Mutex::Guard guard = co_await reserving_.Lock();
  const uint64_t end = request.end().value();
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  const bool is_possible =
      end < kMax && options_.bytes < kMax - end && options_.align < kMax - end - options_.bytes;
  if (end <= below_.size() || !is_possible) co_return;
  const uint64_t ahead = end + options_.bytes;
  const uint64_t target = (ahead + options_.align - 1) / options_.align * options_.align;
  (void)co_await below_.Allocate(HostOffset(below_.size()), target - below_.size());
}

}  // namespace ringcow
