#include "engine/uring_disk.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "engine/direct_io.h"
#include "engine/errno_status.h"
#include "engine/file_lock.h"
#include "engine/invariant.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr mode_t kNewFileMode = 0644;

// No transfer of the kernel's is longer (MAX_RW_COUNT), and an SQE's length has 32 bits; the rest
// is continued like any short transfer.
constexpr uint64_t kLongestTransfer = 0x7ffff000;

// O_NONBLOCK, so that a FIFO is refused and not waited for.
int OpenFlags(const UringDisk::Options& options) {
  int flags = O_CLOEXEC | O_NONBLOCK | (options.read_only ? O_RDONLY : O_RDWR);
  if (options.creation != UringDisk::Creation::kMustExist) flags |= O_CREAT;
  if (options.creation == UringDisk::Creation::kExclusive) flags |= O_EXCL;
  return flags;
}

int FallocateMode(Op op) {
  switch (op) {
    case Op::kWriteZeroes:
      return FALLOC_FL_ZERO_RANGE;
    case Op::kPunch:
      return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    default:
      return 0;
  }
}

// `slot`: of the request's memory, where it is registered.
void PrepareTransfer(const Request& request, int fd, std::optional<unsigned> slot,
                     io_uring_sqe& sqe) {
  const std::span<const iovec> memory = request.memory();
  const uint64_t offset = request.offset.value();
  const bool read = request.op == Op::kRead;
  if (memory.size() == 1) {
    const auto length = static_cast<unsigned>(std::min<uint64_t>(request.length, kLongestTransfer));
    if (slot.has_value()) {
      io_uring_prep_rw(read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED, &sqe, fd,
                       memory[0].iov_base, length, offset);
      sqe.buf_index = static_cast<uint16_t>(*slot);
    } else {
      io_uring_prep_rw(read ? IORING_OP_READ : IORING_OP_WRITE, &sqe, fd, memory[0].iov_base,
                       length, offset);
    }
  } else {
    io_uring_prep_rw(read ? IORING_OP_READV : IORING_OP_WRITEV, &sqe, fd, memory.data(),
                     static_cast<unsigned>(memory.size()), offset);
  }
  if (request.dsync) sqe.rw_flags = RWF_DSYNC;
}

}  // namespace

absl::StatusOr<std::unique_ptr<UringDisk>> UringDisk::Open(Rings& rings, const std::string& path,
                                                           const Options& options) {
  ASSIGN_OR_RETURN(Opened opened, OpenFile(path, options));
  opened.properties.max_chain = rings.max_chain();
  return absl::WrapUnique(new UringDisk(rings, std::move(opened)));
}

absl::StatusOr<UringDisk::Opened> UringDisk::OpenFile(const std::string& path,
                                                      const Options& options) {
  const bool may_create = options.creation != Creation::kMustExist;
  const std::string could_not =
      absl::StrFormat("Could not %s '%s'", may_create ? "create" : "open", path);

  Opened opened;
  opened.fd = FileDescriptor(open(path.c_str(), OpenFlags(options), kNewFileMode));
  const int fd = opened.fd.get();
  if (fd < 0) return ErrnoStatus(errno, could_not);
  ASSIGN_OR_RETURN(opened.properties.size, SizeOfFile(fd, options.kind, path));

  (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);

  const LockMode mode = options.read_only ? LockMode::kReader : LockMode::kWriter;
  RETURN_IF_ERROR(LockImageFile(fd, options.force_share ? LockMode::kNone : mode, path));
  if (options.truncate && !IsDevice(fd)) {
    if (ftruncate(fd, 0) != 0) return ErrnoStatus(errno, could_not);
    opened.properties.size = 0;
  }

  opened.properties.name = path;
  const std::optional<DirectIoAlignment> direct =
      options.direct ? EnableDirectIo(fd) : std::nullopt;
  const DirectIoAlignment alignment = direct.value_or(DirectIoAlignment{1, 1});
  opened.direct = direct.has_value();
  opened.properties.alignment = alignment.offset;
  opened.properties.memory_alignment = alignment.memory;
  if (options.direct && !opened.direct) {
    opened.notice = absl::StrFormat(
        "'%s' is opened without O_DIRECT, which its file system does not offer: "
        "the host caches its pages",
        path);
  }
  return opened;
}

UringDisk::UringDisk(Rings& rings, Opened opened)
    : Disk(rings.loop(), opened.properties),
      rings_(rings),
      fd_(std::move(opened.fd)),
      file_slot_(rings.RegisterFile(fd_.get())),
      direct_(opened.direct),
      notice_(std::move(opened.notice)) {}

UringDisk::~UringDisk() {
  RINGCOW_INVARIANT(in_flight_ == 0, "a disk is destroyed only when it is idle");
  if (file_slot_.has_value()) rings_.UnregisterFile(*file_slot_);
  UnlockImageFile(fd_.get());
}

DiskExtent UringDisk::Find(HostOffset offset, uint64_t length) const {
  const auto begin = static_cast<off_t>(offset.value());
  const auto until = [&](off_t end) {
    return std::min(length, static_cast<uint64_t>(end) - offset.value());
  };
  const off_t data = lseek(fd_.get(), begin, SEEK_DATA);
  // Neither data behind it nor the end of the file: ENXIO is for both.
  if (data < 0) return {.bytes = length, .hole = errno == ENXIO};
  if (data > begin) return {.bytes = until(data), .hole = true};
  const off_t hole = lseek(fd_.get(), begin, SEEK_HOLE);
  return {.bytes = hole > begin ? until(hole) : length};
}

// Looked at by name, not by opening it: its lock would be in our own way.
bool UringDisk::IsNamed(const std::string& path) const {
  struct stat named{};
  struct stat open{};
  return stat(path.c_str(), &named) == 0 && fstat(fd_.get(), &open) == 0 &&
         named.st_dev == open.st_dev && named.st_ino == open.st_ino;
}

void UringDisk::Start(Request& request) {
  if (request.op == Op::kTruncate) {
    TruncateNow(request);
    return;
  }
  Adopt(request);
  rings_.Queue(request);
}

void UringDisk::StartChain(Chain& chain) {
  // Only such disks are linked: see CanLink.
  for (Request& member : chain.members()) static_cast<UringDisk*>(member.disk)->Adopt(member);
  rings_.Queue(chain);
}

void UringDisk::Adopt(Request& request) {
  request.ring_client = this;
  ++in_flight_;
}

bool UringDisk::CanLink(const Disk& other) const {
  const auto* const uring = dynamic_cast<const UringDisk*>(&other);
  return uring != nullptr && &uring->rings_ == &rings_;
}

void UringDisk::Prepare(const Request& request, io_uring_sqe& sqe) {
  const int fd = file_slot_.has_value() ? static_cast<int>(*file_slot_) : fd_.get();
  switch (request.op) {
    case Op::kRead:
    case Op::kWrite:
      PrepareTransfer(request, fd, SlotOfMemory(request), sqe);
      break;
    case Op::kFdatasync:
      io_uring_prep_fsync(&sqe, fd, IORING_FSYNC_DATASYNC);
      break;
    default:
      io_uring_prep_fallocate(&sqe, fd, FallocateMode(request.op),
                              static_cast<off_t>(request.offset.value()),
                              static_cast<off_t>(request.length));
      break;
  }
  if (file_slot_.has_value()) sqe.flags |= IOSQE_FIXED_FILE;
}

std::optional<unsigned> UringDisk::SlotOfMemory(const Request& request) const {
  // Only the data ring has memory.
  if (request.lane != Lane::kData || request.memory().size() != 1) return std::nullopt;
  return rings_.SlotOf(request.memory().front());
}

void UringDisk::Completed(Request& request, int result) {
  --in_flight_;
  Finish(request, result);
}

// A local file system that was interrupted has not reported what failed before, so trying again
// loses no error.
int UringDisk::Synchronize() {
  int result = 0;
  do {
    result = fdatasync(fd_.get());
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : -errno;
}

// io_uring has no ftruncate before Linux 6.9.
void UringDisk::TruncateNow(Request& request) {
  int result = 0;
  do {
    result = ftruncate(fd_.get(), static_cast<off_t>(request.offset.value()));
  } while (result != 0 && errno == EINTR);
  Finish(request, result == 0 ? 0 : -errno);
}

}  // namespace ringcow
