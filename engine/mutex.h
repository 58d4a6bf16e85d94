#ifndef RINGCOW_ENGINE_MUTEX_H_
#define RINGCOW_ENGINE_MUTEX_H_

#include <coroutine>
#include <utility>

#include "engine/loop.h"

namespace ringcow {

// Mutual exclusion between coroutines of one loop, across their suspensions. First come, first
// served. Needed only where a section awaits something: code between two suspensions is exclusive
// by itself.
class Mutex {
 public:
  explicit Mutex(Loop& loop) : loop_(loop) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  // Unlocks when it goes out of scope.
  class [[nodiscard]] Guard {
   public:
    explicit Guard(Mutex& mutex) : mutex_(&mutex) {}
    Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (mutex_ != nullptr) mutex_->Unlock();
    }

   private:
    Mutex* mutex_;
  };

  class Awaiter {
   public:
    explicit Awaiter(Mutex& mutex) : mutex_(mutex) {}
    bool await_ready() {
      if (mutex_.locked_) return false;
      mutex_.locked_ = true;
      return true;
    }
    void await_suspend(std::coroutine_handle<> handle) {
      handle_ = handle;
      (mutex_.last_ != nullptr ? mutex_.last_->next_ : mutex_.first_) = this;
      mutex_.last_ = this;
    }
    Guard await_resume() const { return Guard(mutex_); }

   private:
    friend class Mutex;
    Mutex& mutex_;
    std::coroutine_handle<> handle_;
    Awaiter* next_ = nullptr;
  };

  Awaiter Lock() { return Awaiter(*this); }

 private:
  // The lock passes to the first waiter directly, so nobody can take it in between; in this turn,
  // so that a queue, once there is one, is worked off.
  void Unlock() {
    if (first_ == nullptr) {
      locked_ = false;
      return;
    }
    Awaiter* heir = first_;
    first_ = heir->next_;
    if (first_ == nullptr) last_ = nullptr;
    loop_.PostInTurn(heir->handle_);
  }

  Loop& loop_;
  bool locked_ = false;
  Awaiter* first_ = nullptr;
  Awaiter* last_ = nullptr;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_MUTEX_H_
