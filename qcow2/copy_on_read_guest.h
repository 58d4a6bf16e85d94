#ifndef RINGCOW_QCOW2_COPY_ON_READ_GUEST_H_
#define RINGCOW_QCOW2_COPY_ON_READ_GUEST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "engine/loop.h"
#include "engine/range_lock.h"
#include "qcow2/blkdebug/blkdebug_disk.h"
#include "qcow2/forwarding_disk.h"

namespace ringcow {

// A guest disk whose image takes over what is read from its backing file: QEMU's copy-on-read
// driver, where something lies between it and the image. (Right above an image, the image does it:
// OpenOptions::copy_on_read.) What is copied is written through what lies between.
//
// Copies and whatever else changes the same bytes are one after the other: a guest's write must not
// be lost under older bytes.
class CopyOnReadGuest final : public ForwardingDisk {
 public:
  // Copies whole units of so many bytes, a power of two. `blkdebug` is what lies right below, or
  // null: it is told of each copy, and must live as long as the disk.
  CopyOnReadGuest(Loop& loop, std::unique_ptr<GuestDisk> disk, uint64_t unit,
                  BlkdebugDisk* blkdebug)
      : ForwardingDisk(std::move(disk)), unit_(unit), blkdebug_(blkdebug), changing_(loop) {}

  Task<absl::Status> Read(GuestOffset offset, std::span<std::byte> into) override;
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) override;
  Task<absl::Status> WriteCompressed(GuestOffset offset, std::span<const std::byte> from) override;
  Task<absl::Status> WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) override;
  Task<absl::Status> Discard(GuestOffset offset, uint64_t length) override;

 private:
  // Reads [begin, end), of which `wanted` begins at `from`, and writes what the image does not have
  // of it.
  Task<absl::Status> Copy(GuestOffset begin, GuestOffset end, GuestOffset from,
                          std::span<std::byte> wanted);
  Task<absl::Status> TakeOver(GuestOffset offset, std::span<const std::byte> bytes);

  const uint64_t unit_;
  BlkdebugDisk* const blkdebug_;
  RangeLock changing_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_COPY_ON_READ_GUEST_H_
