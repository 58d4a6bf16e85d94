#ifndef RINGCOW_ENGINE_FILE_KIND_H_
#define RINGCOW_ENGINE_FILE_KIND_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace ringcow {

// What a file has to be, to be opened: what QEMU's drivers ask for.
enum class FileKind : uint8_t {
  kAny,      // one of those
  kRegular,  // "file"
  kDevice,   // "host_device": a block or character device
  kCdrom,    // "host_cdrom": the same, empty unless it is a drive with a disc in it
};

// The size of an open file. InvalidArgument, in QEMU's words, for what is of another kind; an errno
// for a device that has no size. `path` is for messages.
absl::StatusOr<uint64_t> SizeOfFile(int fd, FileKind kind, const std::string& path);

bool IsDevice(int fd);

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_FILE_KIND_H_
