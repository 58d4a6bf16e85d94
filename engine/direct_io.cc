#include "engine/direct_io.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "engine/aligned_buffer.h"

namespace ringcow {
namespace {

constexpr uint32_t kSmallestBlock = 512;

// The kernel's own answer (Linux 6.1; not from every file system). An offset alignment of zero
// means that the file cannot do direct I/O.
std::optional<DirectIoAlignment> AlignmentFromStatx(int fd) {
#ifdef STATX_DIOALIGN
  struct statx info{};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
      (info.stx_mask & STATX_DIOALIGN) != 0) {
    return DirectIoAlignment{info.stx_dio_offset_align, info.stx_dio_mem_align};
  }
#endif
  return std::nullopt;
}

// The smallest block that can be read. What reads nothing proves nothing: some file systems look at
// the alignment only when there are bytes to read. A page is enough for every disk.
uint32_t ProbeBlock(int fd) {
  const AlignedBuffer buffer(kBufferAlignment);
  for (uint32_t block = kSmallestBlock; block < kBufferAlignment; block *= 2) {
    if (pread(fd, buffer.data(), block, 0) > 0) return block;
  }
  return kBufferAlignment;
}

DirectIoAlignment ProbeAlignment(int fd) {
  int block = 0;
  if (ioctl(fd, BLKSSZGET, &block) != 0) block = static_cast<int>(ProbeBlock(fd));
  return {static_cast<uint32_t>(block), static_cast<uint32_t>(block)};
}

}  // namespace

std::optional<DirectIoAlignment> EnableDirectIo(int fd) {
  const int buffered = fcntl(fd, F_GETFL);
  if (fcntl(fd, F_SETFL, buffered | O_DIRECT) == 0) {
    DirectIoAlignment alignment = AlignmentFromStatx(fd).value_or(ProbeAlignment(fd));
    if (alignment.offset != 0) {
      alignment.offset = std::max({alignment.offset, alignment.memory, kSmallestBlock});
      alignment.memory = std::max<uint32_t>(alignment.memory, 1);
      return alignment;
    }
  }
  (void)fcntl(fd, F_SETFL, buffered);
  return std::nullopt;
}

}  // namespace ringcow
