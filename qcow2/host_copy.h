#ifndef RINGCOW_QCOW2_HOST_COPY_H_
#define RINGCOW_QCOW2_HOST_COPY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/task.h"
#include "engine/uring_disk.h"
#include "engine/worker_pool.h"
#include "qcow2/copy_source.h"
#include "qcow2/guest_disk.h"

namespace ringcow {

// Copies from file to file by the host's own means (copy_file_range), into a raw target: between
// files of XFS or btrfs blocks are shared, elsewhere bytes at least do not pass through here.
class HostCopy {
 public:
  // All must outlive it. `target` is a raw image, in `file`.
  HostCopy(WorkerPool& workers, const CopySource& source, GuestDisk& target, UringDisk& file)
      : workers_(workers), source_(source), target_(target), file_(file) {}

  // False where the host cannot do it, and nobody knows what the target has there then: the bytes
  // have to be read and written. Bytes that do not lie together in one file are such; other reasons
  // end all attempts.
  Task<bool> Copy(uint64_t offset, uint64_t length);
  // Makes durable what was copied.
  Task<absl::Status> Flush();

 private:
  WorkerPool& workers_;
  const CopySource& source_;
  GuestDisk& target_;
  UringDisk& file_;
  bool is_possible_ = true;
  bool has_copied_ = false;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_HOST_COPY_H_
