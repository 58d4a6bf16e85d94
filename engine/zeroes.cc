#include "engine/zeroes.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr uint64_t kZeroesAtOnce = uint64_t{1} << 20;

}  // namespace

bool AreZeroes(std::span<const std::byte> bytes) {
  if (bytes.empty()) return true;
  return bytes[0] == std::byte{} &&
         std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

Task<absl::Status> WriteZeroBytes(Disk& disk, HostOffset offset, uint64_t length) {
  if (length == 0) co_return absl::OkStatus();
  const AlignedBuffer zeroes(std::min(length, kZeroesAtOnce));
  std::memset(zeroes.data(), 0, zeroes.size());
  for (uint64_t now = 0; length > 0; offset += now, length -= now) {
    now = std::min<uint64_t>(length, zeroes.size());
    CO_RETURN_IF_ERROR(co_await disk.Write(offset, zeroes.span().first(now)));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ZeroOnDisk(Disk& disk, HostOffset offset, uint64_t length) {
  const absl::Status status = co_await disk.WriteZeroes(offset, length);
  if (ErrnoOf(status) == EOPNOTSUPP) co_return co_await WriteZeroBytes(disk, offset, length);
  co_return status;
}

}  // namespace ringcow
