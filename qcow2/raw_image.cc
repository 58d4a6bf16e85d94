#include "qcow2/raw_image.h"

#include <algorithm>
#include <cerrno>
#include <limits>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"
#include "qcow2/format/limits.h"

namespace ringcow {

RawImage::RawImage(Disk& disk, bool read_only, RawWindow window)
    : disk_(disk), read_only_(read_only), window_(window), changes_synced_(disk.changes()) {}

uint64_t RawImage::size() const { return AlignUp(stored(), kSectorBytes); }

absl::Status RawImage::CheckRange(GuestOffset offset, uint64_t length) const {
  if (Has(offset, length)) return absl::OkStatus();
  return absl::OutOfRangeError(
      absl::StrFormat("'%s': %d bytes at guest offset %#x are beyond its "
                      "end at %#x",
                      disk_.name(), length, offset.value(), size()));
}

Task<absl::Status> RawImage::Read(GuestOffset offset, std::span<std::byte> into) {
  CO_RETURN_IF_ERROR(CheckRange(offset, into.size()));
  co_return co_await disk_.Read(HostOf(offset), into);
}

absl::Status RawImage::CheckChange(GuestOffset offset, uint64_t length) const {
  RETURN_IF_ERROR(CheckRange(offset, length));
  if (!read_only_) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrFormat("'%s' is read-only", disk_.name()));
}

Task<absl::Status> RawImage::Write(GuestOffset offset, std::span<const std::byte> from) {
  CO_RETURN_IF_ERROR(CheckChange(offset, from.size()));
  co_return co_await disk_.Write(HostOf(offset), from);
}

Task<absl::Status> RawImage::WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) {
  CO_RETURN_IF_ERROR(CheckChange(offset, length));
  if (length == 0) co_return absl::OkStatus();
  const HostOffset host = HostOf(offset);
  // Neither makes a file longer.
  if (host.value() + length <= disk_.size()) {
    const absl::Status status = manner == ZeroManner::kMayUnmap
                                    ? co_await disk_.Punch(host, length)
                                    : co_await disk_.WriteZeroes(host, length);
    if (ErrnoOf(status) != EOPNOTSUPP) co_return status;
  }
  co_return co_await WriteZeroBytes(disk_, host, length);
}

Task<absl::Status> RawImage::Discard(GuestOffset offset, uint64_t length) {
  CO_RETURN_IF_ERROR(CheckChange(offset, length));
  const uint64_t end = std::min(offset.value() + length, stored());
  if (end <= offset.value()) co_return absl::OkStatus();
  const absl::Status status = co_await disk_.Punch(HostOf(offset), end - offset.value());
  co_return ErrnoOf(status) == EOPNOTSUPP ? absl::OkStatus() : status;
}

DiskExtent RawImage::FindOnDisk(HostOffset offset, uint64_t length) {
  const bool is_up_to_date = data_.changes == disk_.changes();
  if (is_up_to_date && offset >= data_.begin && offset < data_.end) {
    return {.bytes = std::min(length, data_.end - offset)};
  }
  DiskExtent found = disk_.Find(offset, disk_.size() - offset.value());
  if (!found.hole) data_ = {offset, offset + found.bytes, disk_.changes()};
  found.bytes = std::min(found.bytes, length);
  return found;
}

Task<absl::StatusOr<GuestExtent>> RawImage::Find(GuestOffset offset, uint64_t length) {
  CO_RETURN_IF_ERROR(CheckRange(offset, length));
  const HostOffset host = HostOf(offset);
  if (offset.value() >= stored()) {
    co_return GuestExtent{.bytes = length, .zero = true, .host = host};
  }
  const DiskExtent found = FindOnDisk(host, std::min(length, stored() - offset.value()));
  co_return GuestExtent{.bytes = found.bytes, .zero = found.hole, .host = host};
}

Task<absl::StatusOr<bool>> RawImage::AreKnownZero(GuestOffset offset, uint64_t length) {
  CO_RETURN_IF_ERROR(CheckRange(offset, length));
  if (length == 0 || offset.value() >= stored()) co_return true;
  const uint64_t here = std::min(length, stored() - offset.value());
  const DiskExtent found = FindOnDisk(HostOf(offset), here);
  co_return found.hole&& found.bytes == here;
}

std::optional<StoredBytes> RawImage::TryLocate(GuestOffset offset, uint64_t length) {
  if (offset.value() > stored() || length > stored() - offset.value()) return std::nullopt;
  return StoredBytes{&disk_, HostOf(offset)};
}

Task<absl::Status> RawImage::Resize(uint64_t size, Preallocation preallocation) {
  CO_RETURN_IF_ERROR(CheckChange(GuestOffset(0), 0));
  if (preallocation == Preallocation::kMetadata) {
    co_return absl::InvalidArgumentError("Unsupported preallocation mode: metadata");
  }
  if (window_.size.has_value()) {
    co_return absl::InvalidArgumentError("Cannot resize fixed-size raw disks");
  }
  if (size > std::numeric_limits<int64_t>::max() - window_.offset) {
    co_return absl::InvalidArgumentError("Disk size too large for the chosen offset");
  }
  size += window_.offset;
  const uint64_t old_size = disk_.size();
  CO_RETURN_IF_ERROR(co_await disk_.Truncate(size));
  if (size <= old_size || preallocation == Preallocation::kOff) co_return absl::OkStatus();
  const HostOffset added(old_size);
  const absl::Status status = preallocation == Preallocation::kFalloc
                                  ? co_await disk_.Allocate(added, size - old_size)
                                  : co_await WriteZeroBytes(disk_, added, size - old_size);
  // The size it had, and not one that promises space.
  if (!status.ok()) CO_RETURN_IF_ERROR(co_await disk_.Truncate(old_size));
  co_return status;
}

Task<absl::Status> RawImage::Flush() {
  const uint64_t changes = disk_.changes();
  if (changes == changes_synced_) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(co_await disk_.Fdatasync());
  changes_synced_ = changes;
  co_return absl::OkStatus();
}

Task<absl::Status> RawImage::Close() { co_return co_await Flush(); }

const DiskCounters& RawImage::counters() const { return disk_.counters(); }

void RawImage::ResetCounters() { disk_.ResetCounters(); }

}  // namespace ringcow
