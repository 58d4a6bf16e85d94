#ifndef RINGCOW_ENGINE_ALIGNED_BUFFER_H_
#define RINGCOW_ENGINE_ALIGNED_BUFFER_H_

#include <cstddef>
#include <memory>
#include <new>
#include <span>

namespace ringcow {

// Memory that O_DIRECT accepts on every disk: page aligned. Contents are undefined.
inline constexpr size_t kBufferAlignment = 4096;

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes)
      : memory_(bytes == 0 ? nullptr
                           : static_cast<std::byte*>(
                                 ::operator new(bytes, std::align_val_t{kBufferAlignment}))),
        bytes_(bytes) {}

  std::byte* data() const { return memory_.get(); }
  size_t size() const { return bytes_; }
  std::span<std::byte> span() const { return {memory_.get(), bytes_}; }
  explicit operator bool() const { return memory_ != nullptr; }

 private:
  struct Free {
    void operator()(std::byte* memory) const {
      ::operator delete(memory, std::align_val_t{kBufferAlignment});
    }
  };
  std::unique_ptr<std::byte, Free> memory_;
  size_t bytes_ = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_ALIGNED_BUFFER_H_
