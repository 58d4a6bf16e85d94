#include "cli/resize_target.h"

#include "engine/status_macros.h"

namespace ringcow {

Task<absl::Status> ResizeTarget(const Target& target, uint64_t size, Preallocation preallocation) {
  const bool is_qcow2 = target.chain().image() != nullptr;
  if (is_qcow2 && !IsAligned(size, kSectorBytes)) {
    co_return absl::InvalidArgumentError("The new size must be a multiple of 512");
  }
  const absl::Status status = co_await target.guest().Resize(size, preallocation);
  if (is_qcow2 && absl::IsOutOfRange(status)) {
    co_return absl::OutOfRangeError("Failed to grow the L1 table: File too large");
  }
  co_return status;
}

}  // namespace ringcow
