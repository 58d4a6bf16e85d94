#include "bench/heap_allocations.h"

#include <cstddef>
#include <cstdlib>
#include <new>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define RINGCOW_SANITIZED 1
#endif
#endif

#ifdef RINGCOW_SANITIZED

namespace ringcow {

const bool kCountsHeapAllocations = false;
uint64_t HeapAllocations() { return 0; }

}  // namespace ringcow

#else

namespace ringcow {
namespace {

thread_local uint64_t allocations = 0;

void* Counted(void* memory) {
  ++allocations;
  if (memory == nullptr) std::abort();  // there are no exceptions to say it with
  return memory;
}

}  // namespace

const bool kCountsHeapAllocations = true;
uint64_t HeapAllocations() { return allocations; }

}  // namespace ringcow

// The library's other forms call these.

void* operator new(size_t bytes) { return ringcow::Counted(std::malloc(bytes == 0 ? 1 : bytes)); }

void* operator new(size_t bytes, std::align_val_t alignment) {
  const auto align = static_cast<size_t>(alignment);
  return ringcow::Counted(std::aligned_alloc(align, (bytes + align - 1) / align * align));
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t /*bytes*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept { std::free(memory); }
void operator delete(void* memory, size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}

#endif  // RINGCOW_SANITIZED
