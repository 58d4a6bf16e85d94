#ifndef RINGCOW_ENGINE_TASK_H_
#define RINGCOW_ENGINE_TASK_H_

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include "engine/frame_pool.h"
#include "engine/invariant.h"

namespace ringcow {

template <typename T = void>
class Task;

namespace internal {

// When a task ends, control goes straight to who awaits it (symmetric transfer), so that any
// number of tasks that finish without suspending use one stack frame.
struct ResumeAwaiting {
  bool await_ready() const noexcept { return false; }
  template <typename Promise>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> done) const noexcept {
    return done.promise().awaiting;
  }
  void await_resume() const noexcept {}
};

struct TaskPromiseBase {
  std::coroutine_handle<> awaiting = std::noop_coroutine();

  std::suspend_always initial_suspend() const noexcept { return {}; }
  ResumeAwaiting final_suspend() const noexcept { return {}; }
  // Nothing of ours throws; an exception that gets here (bad_alloc) has no caller that could
  // handle it without having lost track of what was written.
  void unhandled_exception() const noexcept { std::terminate(); }

  static void* operator new(size_t bytes) { return FramePool::Allocate(bytes); }
  static void operator delete(void* frame, size_t bytes) { FramePool::Free(frame, bytes); }
};

template <typename T>
struct TaskPromise : TaskPromiseBase {
  std::optional<T> value;

  Task<T> get_return_object() noexcept;
  template <typename U>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
  T Take() {
    RINGCOW_INVARIANT(value.has_value(), "a task's result is taken once, after it ended");
    return *std::move(value);
  }
};

template <>
struct TaskPromise<void> : TaskPromiseBase {
  Task<void> get_return_object() noexcept;
  void return_void() const noexcept {}
  void Take() const noexcept {}
};

}  // namespace internal

// A coroutine that starts when it is first awaited and is awaited at most once. The Task owns the
// frame: destroying a Task that is suspended in the middle destroys what it holds, and is a bug
// while an I/O request that lives in the frame is in flight (see Scope for running several).
// Parameters taken by reference must outlive the task; the usual `co_await F(x)` guarantees that.
template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = internal::TaskPromise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, {});
    }
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  struct Awaiter {
    Handle handle;

    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiting) const noexcept {
      handle.promise().awaiting = awaiting;
      return handle;
    }
    T await_resume() const { return handle.promise().Take(); }
  };

  // The Task must outlive the await expression; `co_await F()` and `co_await std::move(task)` do.
  Awaiter operator co_await() && noexcept { return Awaiter{handle_}; }

 private:
  Handle handle_;
};

namespace internal {

template <typename T>
Task<T> TaskPromise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<TaskPromise<T>>::from_promise(*this));
}

inline Task<void> TaskPromise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<TaskPromise<void>>::from_promise(*this));
}

// The frame of a coroutine that nobody awaits: it starts at once and frees itself at its end.
struct Detached {
  struct promise_type {
    Detached get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept { std::terminate(); }
    static void* operator new(size_t bytes) { return FramePool::Allocate(bytes); }
    static void operator delete(void* frame, size_t bytes) { FramePool::Free(frame, bytes); }
  };
};

}  // namespace internal

// Runs `task` until its first suspension and lets it finish by itself. Whoever starts it makes
// sure that everything it uses outlives it: prefer Scope, which waits.
inline internal::Detached StartDetached(Task<void> task) { co_await std::move(task); }

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_TASK_H_
