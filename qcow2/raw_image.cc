#include "qcow2/raw_image.h"

#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "qcow2/format/limits.h"

namespace ringcow {

RawImage::RawImage(Disk& disk, bool read_only)
    : disk_(disk), read_only_(read_only), changes_synced_(disk.changes()) {}

uint64_t RawImage::size() const { return AlignUp(disk_.size(), kSectorBytes); }

absl::Status RawImage::CheckRange(GuestOffset offset, uint64_t length) const {
  if (offset.value() <= size() && length <= size() - offset.value()) return absl::OkStatus();
  return absl::OutOfRangeError(
      absl::StrFormat("'%s': %d bytes at guest offset %#x are beyond its "
                      "end at %#x",
                      disk_.name(), length, offset.value(), size()));
}

Task<absl::Status> RawImage::Read(GuestOffset offset, std::span<std::byte> into) {
  CO_RETURN_IF_ERROR(CheckRange(offset, into.size()));
  co_return co_await disk_.Read(HostOffset(offset.value()), into);
}

Task<absl::Status> RawImage::Write(GuestOffset offset, std::span<const std::byte> from) {
  CO_RETURN_IF_ERROR(CheckRange(offset, from.size()));
  if (read_only_) {
    co_return absl::PermissionDeniedError(absl::StrFormat("'%s' is read-only", disk_.name()));
  }
  co_return co_await disk_.Write(HostOffset(offset.value()), from);
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
