#ifndef RINGCOW_ENGINE_DIRECT_IO_H_
#define RINGCOW_ENGINE_DIRECT_IO_H_

#include <cstdint>
#include <optional>

namespace ringcow {

// What O_DIRECT asks of a file's requests, in bytes, powers of two; memory <= offset, so that a
// request that is continued behind one of its blocks stays aligned in memory too.
struct DirectIoAlignment {
  uint32_t offset = 512;  // also of the length
  uint32_t memory = 512;
};

// Sets O_DIRECT on an open regular file or block device and finds its alignment. Nothing when the
// file system has no O_DIRECT; the descriptor stays buffered then. (An open(2) with O_CREAT and
// O_DIRECT would leave a new file behind when it is refused.)
std::optional<DirectIoAlignment> EnableDirectIo(int fd);

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_DIRECT_IO_H_
