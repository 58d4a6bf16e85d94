#ifndef RINGCOW_ENGINE_BUFFER_POOL_H_
#define RINGCOW_ENGINE_BUFFER_POOL_H_

#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "engine/aligned_buffer.h"

namespace ringcow {

// Aligned scratch buffers for bounces, copy-on-write and write-back, reused by size class (powers
// of two from 4 KiB to 1 MiB; larger ones are allocated and freed each time). What is kept for
// reuse is bounded by kept_bytes. Belongs to one loop's thread; must outlive its buffers.
class BufferPool {
 public:
  explicit BufferPool(size_t kept_bytes = size_t{8} << 20) : kept_limit_(kept_bytes) {}
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // Goes back to the pool when it is destroyed. Contents are undefined.
  class Buffer {
   public:
    Buffer() = default;
    Buffer(BufferPool& pool, AlignedBuffer memory, size_t bytes)
        : pool_(&pool), memory_(std::move(memory)), bytes_(bytes) {}
    Buffer(Buffer&& other) noexcept = default;
    Buffer& operator=(Buffer&& other) noexcept {
      std::swap(pool_, other.pool_);
      std::swap(memory_, other.memory_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Buffer() {
      if (memory_) pool_->Recycle(std::move(memory_));
    }

    std::span<std::byte> span() const { return memory_.span().first(bytes_); }
    std::byte* data() const { return memory_.data(); }
    size_t size() const { return bytes_; }

   private:
    BufferPool* pool_ = nullptr;
    AlignedBuffer memory_;
    size_t bytes_ = 0;
  };

  Buffer Get(size_t bytes);

 private:
  static constexpr size_t kSmallest = 4096;
  static constexpr size_t kClasses = 9;

  void Recycle(AlignedBuffer memory);

  const size_t kept_limit_;
  size_t kept_bytes_ = 0;
  std::array<std::vector<AlignedBuffer>, kClasses> free_;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_BUFFER_POOL_H_
