#include "engine/frame_pool.h"

#include <array>
#include <new>

namespace ringcow {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kPooled = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kPooled = false;
#else
constexpr bool kPooled = true;
#endif
#else
constexpr bool kPooled = true;
#endif

constexpr size_t kClassBytes = 64;
constexpr size_t kClasses = 64;  // frames up to 4 KiB

struct FreeFrame {
  FreeFrame* next;
};

struct FreeLists {
  std::array<FreeFrame*, kClasses> heads{};

  ~FreeLists() {
    for (FreeFrame* head : heads) {
      while (head != nullptr) {
        FreeFrame* next = head->next;
        ::operator delete(head);
        head = next;
      }
    }
  }
};

FreeLists& ThreadLists() {
  thread_local FreeLists lists;
  return lists;
}

constexpr size_t ClassOf(size_t bytes) { return (bytes + kClassBytes - 1) / kClassBytes - 1; }

}  // namespace

void* FramePool::Allocate(size_t bytes) {
  if (!kPooled || bytes == 0 || bytes > kClassBytes * kClasses) return ::operator new(bytes);
  const size_t size_class = ClassOf(bytes);
  FreeFrame*& head = ThreadLists().heads[size_class];
  if (head == nullptr) return ::operator new((size_class + 1) * kClassBytes);
  FreeFrame* frame = head;
  head = frame->next;
  return frame;
}

void FramePool::Free(void* frame, size_t bytes) {
  if (!kPooled || bytes == 0 || bytes > kClassBytes * kClasses) {
    ::operator delete(frame);
    return;
  }
  FreeFrame*& head = ThreadLists().heads[ClassOf(bytes)];
  head = new (frame) FreeFrame{head};
}

}  // namespace ringcow
