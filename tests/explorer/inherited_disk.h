#ifndef RINGCOW_TESTS_EXPLORER_INHERITED_DISK_H_
#define RINGCOW_TESTS_EXPLORER_INHERITED_DISK_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qcow2/guest_disk.h"
#include "tests/support/stamped_guest.h"

namespace ringcow {

// A backing file whose units hold what StampedGuest expects of units that were inherited. It is
// only read, has no loop of its own, and nothing of it is known to be zero.
class InheritedDisk final : public GuestDisk {
 public:
  InheritedDisk(uint64_t units, uint64_t unit_bytes) : units_(units), unit_bytes_(unit_bytes) {}

  uint64_t size() const override { return units_ * unit_bytes_; }
  Task<absl::Status> Read(GuestOffset offset, std::span<std::byte> into) override {
    for (size_t i = 0; i < into.size(); ++i) into[i] = ByteAt(offset.value() + i);
    co_return absl::OkStatus();
  }
  Task<absl::Status> Write(GuestOffset, std::span<const std::byte>) override { return Refuse(); }
  Task<absl::Status> WriteZeroes(GuestOffset, uint64_t, ZeroManner) override { return Refuse(); }
  Task<absl::Status> Discard(GuestOffset, uint64_t) override { return Refuse(); }
  Task<absl::StatusOr<GuestExtent>> Find(GuestOffset, uint64_t length) override {
    co_return GuestExtent{.bytes = length};
  }
  Task<absl::StatusOr<bool>> AreKnownZero(GuestOffset, uint64_t length) override {
    co_return length == 0;
  }
  Task<absl::Status> Resize(uint64_t, Preallocation) override { return Refuse(); }
  Task<absl::Status> Flush() override { co_return absl::OkStatus(); }
  Task<absl::Status> Close() override { co_return absl::OkStatus(); }
  const DiskCounters& counters() const override { return counters_; }
  void ResetCounters() override {}

 private:
  static Task<absl::Status> Refuse() {
    co_return absl::PermissionDeniedError("a backing file was written to");
  }
  std::byte ByteAt(uint64_t offset) const {
    const uint64_t word = StampedGuest::InheritedWord(offset / unit_bytes_);
    std::byte bytes[sizeof(word)];
    std::memcpy(bytes, &word, sizeof(word));
    return bytes[offset % sizeof(word)];
  }

  const uint64_t units_;
  const uint64_t unit_bytes_;
  DiskCounters counters_;
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_INHERITED_DISK_H_
