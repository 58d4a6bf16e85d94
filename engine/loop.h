#ifndef RINGCOW_ENGINE_LOOP_H_
#define RINGCOW_ENGINE_LOOP_H_

#include <coroutine>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/invariant.h"
#include "engine/task.h"

namespace ringcow {

// Where completions come from: the rings of the kernel, or a simulated disk. Called by the Loop
// only, on its thread.
class CompletionSource {
 public:
  virtual ~CompletionSource() = default;

  // Hands over to the kernel all that was queued in this turn.
  virtual void Submit() = 0;
  // Posts to the loop the waiters of what has completed. Never blocks, never resumes anything.
  virtual void Reap() = 0;
  // Requests under way, the queued ones included. While it is zero, Wait is not called.
  virtual size_t outstanding() const = 0;
  // Hands over what was queued, as Submit does, and blocks until there is something to post, by
  // Reap or posted already: one call instead of two, because on io_uring each would be a system
  // call.
  virtual void Wait() = 0;
};

// One thread's scheduler. In a turn it resumes everything that is ready, reaps, and lets each
// source submit what those coroutines queued (one io_uring_enter for all of them, which also sleeps
// when nothing became ready). A completion puts its waiter on the ready queue and nothing is
// resumed from within a completion, so a coroutine sees no state change between two of its
// suspensions except its own.
//
// Not thread-safe: everything that runs on a loop, and every disk and image on it, belongs to the
// thread that calls Run.
class Loop {
 public:
  Loop() = default;
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  ~Loop();

  // Resumes `handle` in the next turn, in the order of the Post calls.
  void Post(std::coroutine_handle<> handle) { ready_.push_back(handle); }

  // Resumes `handle` in the turn that is resuming what is ready, behind all that is ready in it; in
  // the next one where none is. For what was ready but for a lock: with a turn for each holder, all
  // who have once waited for a busy lock would go on waiting for each other, a turn each.
  void PostInTurn(std::coroutine_handle<> handle) {
    (is_resuming_ ? running_ : ready_).push_back(handle);
  }

  // A source stays until it is removed, which its destructor does; it must be idle by then.
  void AddSource(CompletionSource& source);
  void RemoveSource(CompletionSource& source);

  // Drives the loop until `task` has ended. Only at the top level: not from within a coroutine.
  template <typename T>
  T Run(Task<T> task) {
    bool done = false;
    if constexpr (std::is_void_v<T>) {
      StartDetached(Signal(std::move(task), done));
      TurnUntil(done);
    } else {
      std::optional<T> result;
      StartDetached(Store(std::move(task), result, done));
      TurnUntil(done);
      RINGCOW_INVARIANT(result.has_value(), "a task that is done has stored its result");
      return *std::move(result);
    }
  }

  // Lets everything else that is ready go first: `co_await loop.Yield()`.
  auto Yield() {
    struct Awaiter {
      Loop& loop;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> handle) const { loop.Post(handle); }
      void await_resume() const noexcept {}
    };
    return Awaiter{*this};
  }

 private:
  static Task<void> Signal(Task<void> task, bool& done) {
    co_await std::move(task);
    done = true;
  }
  template <typename T>
  static Task<void> Store(Task<T> task, std::optional<T>& result, bool& done) {
    result.emplace(co_await std::move(task));
    done = true;
  }

  void TurnUntil(const bool& done);
  void SubmitAndWait();

  std::vector<std::coroutine_handle<>> ready_;
  std::vector<std::coroutine_handle<>> running_;  // of this turn; kept for its capacity
  bool is_resuming_ = false;
  std::vector<CompletionSource*> sources_;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_LOOP_H_
