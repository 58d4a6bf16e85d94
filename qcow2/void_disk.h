#ifndef RINGCOW_QCOW2_VOID_DISK_H_
#define RINGCOW_QCOW2_VOID_DISK_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/loop.h"
#include "engine/request.h"
#include "engine/task.h"
#include "qcow2/image_description.h"
#include "qcow2/stacked_disk.h"

namespace ringcow {

struct VoidDiskOptions {
  uint64_t bytes = uint64_t{1} << 30;
  std::chrono::nanoseconds latency{0};  // of each request, at least
  bool is_known_zero = false;           // Find says that it is all zeroes
  // What of it makes it another disk, as it was said.
  std::map<std::string, std::string> given = {};
};

// Takes "size", "latency-ns" and "read-zeroes" out. InvalidArgument in QEMU's words.
absl::StatusOr<VoidDiskOptions> TakeVoidDiskOptions(ImageDescription& options);

// A disk without storage, of a fixed size: QEMU's null-co and null-aio. What is written is
// forgotten, and what is read is zeroes. (QEMU leaves the reader's memory as it was, unless it is
// to be known to be zeroes.) Writing beyond its end fails with ENOSPC, a new size with EINVAL, as
// that of a block device.
class VoidDisk final : public StackedDisk {
 public:
  VoidDisk(Loop& loop, const VoidDiskOptions& options);

  DiskExtent Find(HostOffset offset, uint64_t length) const override;

 private:
  Task<int64_t> ResultOf(Request& request) override;

  const VoidDiskOptions options_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_VOID_DISK_H_
