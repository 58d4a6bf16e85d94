#ifndef RINGCOW_QCOW2_DEBUGGED_GUEST_H_
#define RINGCOW_QCOW2_DEBUGGED_GUEST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "engine/loop.h"
#include "qcow2/blkdebug/blkdebug_disk.h"
#include "qcow2/forwarding_disk.h"
#include "qcow2/guest_as_disk.h"
#include "qcow2/raw_image.h"

namespace ringcow {

// A guest disk with a blkdebug above it, between it and whoever uses it. Zeroing that may give
// space back counts as a discard.
class DebuggedGuest final : public ForwardingDisk {
 public:
  // Errors as those of BlkdebugDisk::Open. `name` is for messages.
  static absl::StatusOr<std::unique_ptr<DebuggedGuest>> Open(Loop& loop,
                                                             std::unique_ptr<GuestDisk> guest,
                                                             const std::string& name,
                                                             const BlkdebugOptions& options);

  BlkdebugDisk& blkdebug() const { return *blkdebug_; }

  Task<absl::Status> Read(GuestOffset offset, std::span<std::byte> into) override {
    return debugged_->Read(offset, into);
  }
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) override {
    return debugged_->Write(offset, from);
  }
  // As QEMU's, it has no compression.
  Task<absl::Status> WriteCompressed(GuestOffset offset, std::span<const std::byte> from) override {
    return debugged_->WriteCompressed(offset, from);
  }
  Task<absl::Status> WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) override {
    return debugged_->WriteZeroes(offset, length, manner);
  }
  // What is smaller than blkdebug's alignment is not discarded.
  Task<absl::Status> Discard(GuestOffset offset, uint64_t length) override;
  Task<absl::StatusOr<GuestExtent>> Find(GuestOffset offset, uint64_t length) override;
  Task<absl::Status> Flush() override { return debugged_->Flush(); }
  Task<absl::Status> Close() override;

 private:
  DebuggedGuest(Loop& loop, std::unique_ptr<GuestDisk> guest, const std::string& name)
      : ForwardingDisk(std::move(guest)),
        as_disk_(loop, disk(), name, GuestAsDisk::BeyondEnd::kLost) {}

  GuestAsDisk as_disk_;
  std::unique_ptr<BlkdebugDisk> blkdebug_;
  std::unique_ptr<RawImage> debugged_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_DEBUGGED_GUEST_H_
