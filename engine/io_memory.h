#ifndef RINGCOW_ENGINE_IO_MEMORY_H_
#define RINGCOW_ENGINE_IO_MEMORY_H_

#include <cstddef>
#include <span>
#include <utility>

#include "absl/status/statusor.h"

namespace ringcow {

// Page-aligned memory for requests of any size a user asks for: too much is a Status, where
// operator new would end the program. Zero at first, and taken from the system as it is touched.
class IoMemory {
 public:
  static absl::StatusOr<IoMemory> Allocate(size_t bytes);

  IoMemory() = default;
  IoMemory(IoMemory&& other) noexcept : memory_(std::exchange(other.memory_, {})) {}
  IoMemory& operator=(IoMemory&& other) noexcept {
    std::swap(memory_, other.memory_);
    return *this;
  }
  ~IoMemory();

  std::span<std::byte> span() const { return memory_; }

 private:
  explicit IoMemory(std::span<std::byte> memory) : memory_(memory) {}

  std::span<std::byte> memory_;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_IO_MEMORY_H_
