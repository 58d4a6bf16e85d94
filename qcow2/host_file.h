#ifndef RINGCOW_QCOW2_HOST_FILE_H_
#define RINGCOW_QCOW2_HOST_FILE_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/rings.h"
#include "engine/uring_disk.h"
#include "qcow2/blkdebug/blkdebug_disk.h"
#include "qcow2/image_source.h"

namespace ringcow {

// A local file that is open, and the blkdebug that lies on it where a description wants one.
class HostFile {
 public:
  // `options` are what the caller wants of the file; the source may want more. InvalidArgument and
  // PermissionDenied in QEMU's words where they contradict each other.
  static absl::StatusOr<HostFile> Open(Rings& rings, const ImageSource& source,
                                       UringDisk::Options options);

  // To be read and written.
  Disk& disk() const { return blkdebug_ != nullptr ? static_cast<Disk&>(*blkdebug_) : *file_; }
  // What lies under it.
  UringDisk& file() const { return *file_; }
  // The file's path; or, with a blkdebug that a name can tell all of, "blkdebug:CONFIG:PATH".
  std::string name() const;
  // Null where there is none.
  BlkdebugDisk* blkdebug() const { return blkdebug_.get(); }

 private:
  HostFile(std::unique_ptr<UringDisk> file, std::unique_ptr<BlkdebugDisk> blkdebug)
      : file_(std::move(file)), blkdebug_(std::move(blkdebug)) {}

  std::unique_ptr<UringDisk> file_;
  std::unique_ptr<BlkdebugDisk> blkdebug_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_HOST_FILE_H_
