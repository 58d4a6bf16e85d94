#ifndef RINGCOW_ENGINE_URING_DISK_H_
#define RINGCOW_ENGINE_URING_DISK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/chain.h"
#include "engine/disk.h"
#include "engine/file_descriptor.h"
#include "engine/file_kind.h"
#include "engine/request.h"
#include "engine/rings.h"

namespace ringcow {

// A regular file or a device through io_uring. It is idle when it is destroyed; the rings
// outlive it.
class UringDisk final : public Disk, private RingClient {
 public:
  enum class Creation : uint8_t {
    kMustExist,
    kIfMissing,
    kExclusive,  // fails with kAlreadyExists
  };

  struct Options {
    FileKind kind = FileKind::kAny;
    bool read_only = false;
    // O_DIRECT, where the file system has it; otherwise the host caches pages, and notice() says
    // so.
    bool direct = true;
    Creation creation = Creation::kMustExist;
    bool truncate = false;     // to nothing, once the lock is held; of a regular file
    bool force_share = false;  // neither takes nor respects image locks (QEMU's -U)
  };

  // Errors: "Could not open 'path': <reason>" with the errno's code; kUnavailable when the image is
  // locked; those of SizeOfFile.
  static absl::StatusOr<std::unique_ptr<UringDisk>> Open(Rings& rings, const std::string& path,
                                                         const Options& options);
  static absl::StatusOr<std::unique_ptr<UringDisk>> Open(Rings& rings, const std::string& path) {
    return Open(rings, path, Options());
  }
  ~UringDisk() override;

  DiskExtent Find(HostOffset offset, uint64_t length) const override;
  // Disks on the same rings.
  bool CanLink(const Disk& other) const override;

  bool direct() const { return direct_; }
  // Empty, or a sentence about what this file does not offer; for front ends to say once.
  const std::string& notice() const { return notice_; }
  int fd() const { return fd_.get(); }
  bool is_device() const { return IsDevice(fd_.get()); }
  // Whether that is another name of this file.
  bool IsNamed(const std::string& path) const;

 protected:
  void Start(Request& request) override;
  void StartChain(Chain& chain) override;

 private:
  struct Opened {
    FileDescriptor fd;
    bool direct = false;
    std::string notice;
    Properties properties;
  };

  UringDisk(Rings& rings, Opened opened);

  static absl::StatusOr<Opened> OpenFile(const std::string& path, const Options& options);

  void Adopt(Request& request);
  void Prepare(const Request& request, io_uring_sqe& sqe) override;
  void Completed(Request& request, int result) override;
  int Synchronize() override;
  std::optional<unsigned> SlotOfMemory(const Request& request) const;
  void TruncateNow(Request& request);

  Rings& rings_;
  const FileDescriptor fd_;
  const std::optional<unsigned> file_slot_;  // in the rings' tables
  const bool direct_;
  const std::string notice_;
  size_t in_flight_ = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_URING_DISK_H_
