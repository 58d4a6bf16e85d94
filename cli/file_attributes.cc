#include "cli/file_attributes.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"

namespace ringcow {
namespace {

bool SetExtentSizeHint(int fd, uint32_t bytes) {
  fsxattr attributes{};
  if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0) return false;
  attributes.fsx_xflags |= FS_XFLAG_EXTSIZE;
  attributes.fsx_extsize = bytes;
  return ioctl(fd, FS_IOC_FSSETXATTR, &attributes) == 0;
}

void SetNocow(int fd) {
  int flags = 0;
  if (ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0) return;
  flags |= FS_NOCOW_FL;
  (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);  // only btrfs knows it
}

}  // namespace

absl::StatusOr<FileAttributes> FileAttributesOf(const Program& program,
                                                const CreateOptionValues& values) {
  FileAttributes attributes;
  attributes.program = &program;
  attributes.nocow = values.Has("nocow") && values.Flag("nocow");
  if (values.Has("extent_size_hint")) {
    const uint64_t bytes = values.Number("extent_size_hint");
    if (bytes > std::numeric_limits<uint32_t>::max()) {
      return absl::InvalidArgumentError("Extent size hint is too large");
    }
    attributes.extent_size_hint = static_cast<uint32_t>(bytes);
  }
  return attributes;
}

void SetFileAttributes(int fd, const FileAttributes& attributes) {
  if (attributes.nocow) SetNocow(fd);
  const uint32_t hint = attributes.extent_size_hint.value_or(0);
  if (!attributes.extent_size_hint.has_value() || SetExtentSizeHint(fd, hint) || hint == 0) return;
  attributes.program->Error(
      absl::StrCat("warning: Failed to set extent size hint: ", std::strerror(errno)));
}

}  // namespace ringcow
