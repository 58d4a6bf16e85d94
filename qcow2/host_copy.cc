#include "qcow2/host_copy.h"

#include <unistd.h>

#include <optional>

namespace ringcow {
namespace {

bool CopyFileRange(FileBytes from, FileBytes to, uint64_t length) {
  auto from_offset = static_cast<off64_t>(from.offset);
  auto to_offset = static_cast<off64_t>(to.offset);
  while (length > 0) {
    const ssize_t copied = copy_file_range(from.fd, &from_offset, to.fd, &to_offset, length, 0);
    if (copied <= 0) return false;
    length -= static_cast<uint64_t>(copied);
  }
  return true;
}

}  // namespace

Task<bool> HostCopy::Copy(uint64_t offset, uint64_t length) {
  const std::optional<FileBytes> from = source_.TryLocate(offset, length);
  const std::optional<StoredBytes> to = target_.TryLocate(GuestOffset(offset), length);
  if (!is_possible_ || !from.has_value() || !to.has_value()) co_return false;
  const FileBytes into = {file_.fd(), to->offset.value()};
  bool copied = false;
  co_await workers_.Run([&] { copied = CopyFileRange(*from, into, length); });
  is_possible_ = is_possible_ && copied;
  has_copied_ = true;
  co_return copied;
}

Task<absl::Status> HostCopy::Flush() {
  if (!has_copied_) co_return absl::OkStatus();
  co_return co_await file_.Fdatasync();
}

}  // namespace ringcow
