#ifndef RINGCOW_TESTS_SUPPORT_HOSTS_H_
#define RINGCOW_TESTS_SUPPORT_HOSTS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "engine/uring_disk.h"
#include "qcow2/create.h"
#include "qcow2/format/options.h"
#include "qcow2/image.h"

namespace ringcow {

// A file through io_uring, with the loop it is on. Opened until destroyed, and locked meanwhile:
// QEMU's tools can look at it before and after.
class FileHost {
 public:
  // Made when it is missing. Ends the test when it cannot be opened.
  explicit FileHost(const std::string& path);

  Loop& loop() { return loop_; }
  Disk& disk() { return *disk_; }
  // For more disks on the same loop.
  Rings& rings() { return *rings_; }

 private:
  Loop loop_;
  std::unique_ptr<Rings> rings_;
  std::unique_ptr<UringDisk> disk_;
};

// To be called from outside of the disk's loop.
inline absl::Status Create(Disk& disk, const CreateOptions& options) {
  return disk.loop().Run(CreateImage(disk, options));
}
inline absl::StatusOr<std::unique_ptr<Image>> Open(Disk& disk, const OpenOptions& options = {}) {
  return disk.loop().Run(Image::Open(disk, options));
}
inline OpenOptions ReadOnly() {
  OpenOptions options;
  options.read_only = true;
  return options;
}

}  // namespace ringcow

#endif  // RINGCOW_TESTS_SUPPORT_HOSTS_H_
