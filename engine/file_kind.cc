#include "engine/file_kind.h"

#include <linux/cdrom.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

bool IsDevice(const struct stat& info) { return S_ISBLK(info.st_mode) || S_ISCHR(info.st_mode); }

absl::Status CheckKind(const struct stat& info, FileKind kind, const std::string& path) {
  if (kind == FileKind::kAny && IsDevice(info)) return absl::OkStatus();
  if (kind == FileKind::kAny || kind == FileKind::kRegular) {
    if (S_ISREG(info.st_mode)) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrFormat("'file' driver requires '%s' to be a regular file", path));
  }
  if (IsDevice(info)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("'%s' driver requires '%s' to be either a character or block device",
                      kind == FileKind::kCdrom ? "host_cdrom" : "host_device", path));
}

}  // namespace

absl::StatusOr<uint64_t> SizeOfFile(int fd, FileKind kind, const std::string& path) {
  const std::string could_not = absl::StrFormat("Could not open '%s'", path);
  struct stat info{};
  if (fstat(fd, &info) != 0) return ErrnoStatus(errno, could_not);
  RETURN_IF_ERROR(CheckKind(info, kind, path));
  if (S_ISREG(info.st_mode)) return static_cast<uint64_t>(info.st_size);
  if (kind == FileKind::kCdrom && ioctl(fd, CDROM_DRIVE_STATUS, CDSL_CURRENT) != CDS_DISC_OK) {
    return 0;
  }
  uint64_t bytes = 0;
  if (S_ISBLK(info.st_mode)) {
    if (ioctl(fd, BLKGETSIZE64, &bytes) != 0) return ErrnoStatus(errno, could_not);
    return bytes;
  }
  const off_t end = lseek(fd, 0, SEEK_END);
  if (end < 0) return ErrnoStatus(errno, "Could not refresh total sector count");
  return static_cast<uint64_t>(end);
}

bool IsDevice(int fd) {
  struct stat info{};
  return fstat(fd, &info) == 0 && IsDevice(info);
}

}  // namespace ringcow
