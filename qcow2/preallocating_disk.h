#ifndef RINGCOW_QCOW2_PREALLOCATING_DISK_H_
#define RINGCOW_QCOW2_PREALLOCATING_DISK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/mutex.h"
#include "engine/request.h"
#include "engine/task.h"
#include "qcow2/image_description.h"
#include "qcow2/stacked_disk.h"

namespace ringcow {

struct PreallocationOptions {
  uint64_t align = uint64_t{1} << 20;    // where the disk below ends
  uint64_t bytes = uint64_t{128} << 20;  // how far ahead, at least
};

// Takes "prealloc-align" and "prealloc-size" out. InvalidArgument in QEMU's words.
absl::StatusOr<PreallocationOptions> TakePreallocationOptions(ImageDescription& options);

// Another disk, made longer in large steps as it grows: QEMU's preallocate filter. What is ahead
// shows neither in size() nor to a reader, reads as zeroes when the disk grows into it, and is cut
// off by Close. Where the disk below cannot allocate, it grows by what is needed.
class PreallocatingDisk final : public StackedDisk {
 public:
  // `below` must outlive the disk, and be used by nobody else.
  PreallocatingDisk(Disk& below, const PreallocationOptions& options);

  // No request is under way, and none may follow.
  Task<absl::Status> Close();

  DiskExtent Find(HostOffset offset, uint64_t length) const override {
    return below_.Find(offset, length);
  }

 private:
  Task<int64_t> ResultOf(Request& request) override;
  Task<int64_t> Forward(const Request& request);
  Task<int64_t> ReadInside(const Request& request);
  Task<void> ReserveAhead(const Request& request);

  Disk& below_;
  const PreallocationOptions options_;
  Mutex reserving_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_PREALLOCATING_DISK_H_
