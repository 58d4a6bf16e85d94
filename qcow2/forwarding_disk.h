#ifndef RINGCOW_QCOW2_FORWARDING_DISK_H_
#define RINGCOW_QCOW2_FORWARDING_DISK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/task.h"
#include "qcow2/guest_disk.h"

namespace ringcow {

// Another disk, as it is: for those who change some of what it does.
class ForwardingDisk : public GuestDisk {
 public:
  explicit ForwardingDisk(std::unique_ptr<GuestDisk> disk) : disk_(std::move(disk)) {}

  uint64_t size() const override { return disk_->size(); }
  Task<absl::Status> Read(GuestOffset offset, std::span<std::byte> into) override {
    return disk_->Read(offset, into);
  }
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) override {
    return disk_->Write(offset, from);
  }
  Task<absl::Status> WriteCompressed(GuestOffset offset, std::span<const std::byte> from) override {
    return disk_->WriteCompressed(offset, from);
  }
  Task<absl::Status> WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) override {
    return disk_->WriteZeroes(offset, length, manner);
  }
  Task<absl::Status> Discard(GuestOffset offset, uint64_t length) override {
    return disk_->Discard(offset, length);
  }
  Task<absl::StatusOr<GuestExtent>> Find(GuestOffset offset, uint64_t length) override {
    return disk_->Find(offset, length);
  }
  Task<absl::StatusOr<bool>> AreKnownZero(GuestOffset offset, uint64_t length) override {
    return disk_->AreKnownZero(offset, length);
  }
  Task<absl::Status> Resize(uint64_t size, Preallocation preallocation) override {
    return disk_->Resize(size, preallocation);
  }
  Task<absl::Status> Flush() override { return disk_->Flush(); }
  Task<absl::Status> Close() override { return disk_->Close(); }
  const DiskCounters& counters() const override { return disk_->counters(); }
  void ResetCounters() override { disk_->ResetCounters(); }

 protected:
  GuestDisk& disk() const { return *disk_; }

 private:
  const std::unique_ptr<GuestDisk> disk_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORWARDING_DISK_H_
