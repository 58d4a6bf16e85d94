#include "engine/io_memory.h"

#include <sys/mman.h>

#include <cerrno>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"

namespace ringcow {

absl::StatusOr<IoMemory> IoMemory::Allocate(size_t bytes) {
  if (bytes == 0) return IoMemory();
  void* memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, 0);
  if (memory == MAP_FAILED) {
    return ErrnoStatus(errno, absl::StrFormat("Could not allocate %d bytes for requests", bytes));
  }
  return IoMemory(std::span(static_cast<std::byte*>(memory), bytes));
}

IoMemory::~IoMemory() {
  if (!memory_.empty()) (void)munmap(memory_.data(), memory_.size());
}

}  // namespace ringcow
