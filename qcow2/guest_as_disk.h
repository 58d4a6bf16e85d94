#ifndef RINGCOW_QCOW2_GUEST_AS_DISK_H_
#define RINGCOW_QCOW2_GUEST_AS_DISK_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/loop.h"
#include "engine/mutex.h"
#include "engine/request.h"
#include "engine/task.h"
#include "qcow2/guest_disk.h"
#include "qcow2/stacked_disk.h"

namespace ringcow {

// What a guest sees, as a disk of the host: for decorators of disks, and for images that lie on
// it. A flush of the disk is the guest disk's, and goes all the way down. Punching is zeroing, and
// gives space back where the guest disk can. Allocation is not supported.
class GuestAsDisk final : public StackedDisk {
 public:
  // What becomes of bytes that are written beyond the end.
  enum class BeyondEnd : uint8_t {
    kLost,   // they are what an aligned request has there
    kGrows,  // the guest disk gets a new size, in whole sectors; ENOSPC where it cannot
  };

  // `guest` must outlive the disk. `name` is for messages.
  GuestAsDisk(Loop& loop, GuestDisk& guest, std::string name, BeyondEnd beyond_end);

  // Why the first request failed that did so for what was read from the image, not for an error of
  // the host: of the requests of a disk only an errno is left. OK: none did.
  const absl::Status& damage() const { return damage_; }

 private:
  Task<int64_t> ResultOf(Request& request) override;
  Task<int64_t> Transfer(const Request& request);
  Task<int64_t> Zero(const Request& request);
  // 0, or an errno.
  Task<int> ResizeGuest(uint64_t bytes);
  Task<int> MakeRoom(const Request& request);
  int ErrorOf(const absl::Status& status);

  GuestDisk& guest_;
  const BeyondEnd beyond_end_;
  Mutex growing_;
  absl::Status damage_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_GUEST_AS_DISK_H_
