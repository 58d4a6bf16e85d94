#ifndef RINGCOW_QCOW2_HOST_FILE_H_
#define RINGCOW_QCOW2_HOST_FILE_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/rings.h"
#include "engine/task.h"
#include "engine/uring_disk.h"
#include "engine/worker_pool.h"
#include "qcow2/blkdebug/blkdebug_disk.h"
#include "qcow2/guest_as_disk.h"
#include "qcow2/image_source.h"
#include "qcow2/preallocating_disk.h"
#include "qcow2/quorum_disk.h"
#include "qcow2/void_disk.h"

namespace ringcow {

class ImageChain;

struct ImageFileOptions {
  std::string format = {};  // "qcow2", "raw"; empty: look at the file
  bool read_only = false;
  bool direct = true;
  bool force_share = false;  // neither takes nor respects image locks; for reading only
  // For an image that the file is in: see OpenOptions::workers.
  WorkerPool* workers = nullptr;
  // How many files were opened so far for the same image, its backing files, and whatever those lie
  // in. An image can name a backing file that lies in itself; this ends it.
  std::shared_ptr<size_t> opened = std::make_shared<size_t>(0);
};

// The bytes of an image, open: those of a local file, of nothing, or what the guest of another
// image sees, and what lies on them where a description wants that.
class HostFile {
 public:
  static constexpr size_t kMaxFiles = 500;

  // `options` are what the caller wants of the file (not its format); the source may want more. An
  // image that the file is in is opened with all its own backing files, and for writing if the file
  // is. InvalidArgument and PermissionDenied in QEMU's words where they contradict each other;
  // errors of such an image begin with "Could not open", and name it.
  static Task<absl::StatusOr<HostFile>> Open(Rings& rings, ImageSource source,
                                             ImageFileOptions options);
  HostFile(HostFile&& other) noexcept;
  HostFile& operator=(HostFile&& other) noexcept;
  ~HostFile();

  // To be read and written.
  Disk& disk() const { return *disk_; }
  // What all of it lies on; null where it lies nowhere, in another image, or in several files.
  UringDisk* file() const { return file_.get(); }
  // The same, or that of the image in which it lies, and so on.
  UringDisk* outermost_file() const;
  // The path of that, or "".
  std::string path() const;
  // The uppermost one, or null.
  BlkdebugDisk* blkdebug() const;
  // The same, if nothing else lies on it: who is told of an image's events.
  BlkdebugDisk* events() const;
  const ImageSource& source() const { return source_; }
  // The image that it is in, or null.
  const ImageChain* image() const { return image_.get(); }
  // Those that agree on its bytes; empty where it is not a quorum.
  const std::vector<std::unique_ptr<HostFile>>& children() const { return children_; }

  // Gives back what is allocated ahead, and closes the image that the file is in. No request is
  // under way, and none may follow.
  Task<absl::Status> Close();

 private:
  explicit HostFile(ImageSource source);

  Task<absl::Status> OpenBottom(Rings& rings, ImageFileOptions options);
  Task<absl::Status> OpenImage(Rings& rings, const ImageFileOptions& options);
  Task<absl::Status> OpenQuorum(Rings& rings, const QuorumSource& quorum,
                                const ImageFileOptions& options);
  absl::Status PutAbove(const DiskDriver& driver);

  // What lies below is destroyed last.
  ImageSource source_;
  std::unique_ptr<ImageChain> image_;
  std::unique_ptr<GuestAsDisk> image_as_disk_;
  std::vector<std::unique_ptr<HostFile>> children_;
  std::unique_ptr<QuorumDisk> quorum_;
  std::unique_ptr<VoidDisk> nowhere_;
  std::unique_ptr<UringDisk> file_;
  std::vector<std::unique_ptr<BlkdebugDisk>> blkdebugs_;
  std::vector<std::unique_ptr<PreallocatingDisk>> preallocating_;
  Disk* disk_ = nullptr;  // the uppermost
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_HOST_FILE_H_
