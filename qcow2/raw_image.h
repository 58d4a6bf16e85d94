#ifndef RINGCOW_QCOW2_RAW_IMAGE_H_
#define RINGCOW_QCOW2_RAW_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "engine/disk.h"
#include "qcow2/guest_disk.h"
#include "qcow2/raw_window.h"

namespace ringcow {

// A raw image: guest offsets are host offsets, behind the window's. Its size is that of the window
// in the disk, rounded up to a sector. Holes of the disk are zeroes that it stores.
class RawImage final : public GuestDisk {
 public:
  // `disk` must outlive the image; the window is a part of it.
  RawImage(Disk& disk, bool read_only, RawWindow window = {});

  uint64_t size() const override;
  Task<absl::Status> Read(GuestOffset offset, std::span<std::byte> into) override;
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) override;
  Task<absl::Status> WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) override;
  Task<absl::Status> Discard(GuestOffset offset, uint64_t length) override;
  Task<absl::StatusOr<GuestExtent>> Find(GuestOffset offset, uint64_t length) override;
  Task<absl::StatusOr<bool>> AreKnownZero(GuestOffset offset, uint64_t length) override;
  std::optional<StoredBytes> TryLocate(GuestOffset offset, uint64_t length) override;
  Task<absl::Status> Resize(uint64_t size, Preallocation preallocation) override;
  Task<absl::Status> Flush() override;
  Task<absl::Status> Close() override;
  const DiskCounters& counters() const override;
  void ResetCounters() override;

 private:
  absl::Status CheckRange(GuestOffset offset, uint64_t length) const;
  absl::Status CheckChange(GuestOffset offset, uint64_t length) const;
  HostOffset HostOf(GuestOffset offset) const {
    return HostOffset(window_.offset + offset.value());
  }
  // The bytes of the image that the disk has.
  uint64_t stored() const { return window_.BytesOf(disk_.size()); }
  // Disk::Find, inside the disk.
  DiskExtent FindOnDisk(HostOffset offset, uint64_t length);

  Disk& disk_;
  const bool read_only_;
  const RawWindow window_;
  uint64_t changes_synced_;
  // Bytes that the disk said are stored, when it had seen so many changes. Copying on write asks
  // again and again about neighbours, and each answer costs system calls.
  struct {
    HostOffset begin;
    HostOffset end;
    uint64_t changes = 0;
  } data_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_RAW_IMAGE_H_
