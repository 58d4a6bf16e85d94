#ifndef RINGCOW_ENGINE_FRAME_POOL_H_
#define RINGCOW_ENGINE_FRAME_POOL_H_

#include <cstddef>

namespace ringcow {

// Memory for coroutine frames: free lists by size class, one set a thread, so that a request's
// coroutines cost no malloc once warm. A frame must be freed by the thread that allocated it,
// which holds because a coroutine never leaves its Loop's thread. Sizes above the largest class go
// to operator new. Under AddressSanitizer every frame does, so that a use after free is seen.
class FramePool {
 public:
  static void* Allocate(size_t bytes);
  static void Free(void* frame, size_t bytes);
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_FRAME_POOL_H_
