#include "engine/buffer_pool.h"

#include <algorithm>
#include <bit>

namespace ringcow {

BufferPool::Buffer BufferPool::Get(size_t bytes) {
  const size_t rounded = std::bit_ceil(std::max(bytes, kSmallest));
  const size_t size_class = std::countr_zero(rounded / kSmallest);
  if (size_class >= kClasses) return Buffer(*this, AlignedBuffer(bytes), bytes);
  std::vector<AlignedBuffer>& free = free_[size_class];
  if (free.empty()) return Buffer(*this, AlignedBuffer(rounded), bytes);
  AlignedBuffer memory = std::move(free.back());
  free.pop_back();
  kept_bytes_ -= memory.size();
  return Buffer(*this, std::move(memory), bytes);
}

void BufferPool::Recycle(AlignedBuffer memory) {
  if (!std::has_single_bit(memory.size()) || memory.size() < kSmallest) return;
  const size_t size_class = std::countr_zero(memory.size() / kSmallest);
  if (size_class >= kClasses || kept_bytes_ + memory.size() > kept_limit_) return;
  kept_bytes_ += memory.size();
  free_[size_class].push_back(std::move(memory));
}

}  // namespace ringcow
