#include "engine/zeroes.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/errno_status.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr uint64_t kZeroesAtOnce = uint64_t{1} << 20;

// Nobody writes to it, so that all of it is one page of the kernel's, and none is ever allocated,
// cleared or mapped for a single use. Aligned for every disk.
alignas(4096) std::byte zeroes[kZeroesAtOnce];

}  // namespace

bool AreZeroes(std::span<const std::byte> bytes) {
  if (bytes.empty()) return true;
  return bytes[0] == std::byte{} &&
         std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

Task<absl::Status> WriteZeroBytes(Disk& disk, HostOffset offset, uint64_t length) {
  for (uint64_t now = 0; length > 0; offset += now, length -= now) {
    now = std::min(length, kZeroesAtOnce);
    CO_RETURN_IF_ERROR(co_await disk.Write(offset, std::span<const std::byte>(zeroes).first(now)));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ZeroOnDisk(Disk& disk, HostOffset offset, uint64_t length) {
  const absl::Status status = co_await disk.WriteZeroes(offset, length);
  if (ErrnoOf(status) == EOPNOTSUPP) co_return co_await WriteZeroBytes(disk, offset, length);
  co_return status;
}

}  // namespace ringcow
