#ifndef RINGCOW_ENGINE_WAIT_LIST_H_
#define RINGCOW_ENGINE_WAIT_LIST_H_

#include <coroutine>

#include "engine/loop.h"

namespace ringcow {

// Coroutines that wait for a condition to change. A woken one runs in the next turn and must look
// at the condition again: `while (!ready) co_await list.Wait();`.
// Allocates nothing: a waiter lives in the awaiting frame. Must outlive its waiters.
class WaitList {
 public:
  explicit WaitList(Loop& loop) : loop_(loop) {}
  WaitList(const WaitList&) = delete;
  WaitList& operator=(const WaitList&) = delete;

  class Awaiter {
   public:
    explicit Awaiter(WaitList& list) : list_(list) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
      handle_ = handle;
      next_ = list_.head_;
      list_.head_ = this;
    }
    void await_resume() const noexcept {}

   private:
    friend class WaitList;
    WaitList& list_;
    std::coroutine_handle<> handle_;
    Awaiter* next_ = nullptr;
  };

  Awaiter Wait() { return Awaiter(*this); }
  bool empty() const { return head_ == nullptr; }

  // In the order in which they began to wait.
  void WakeAll() {
    Awaiter* in_order = nullptr;
    while (head_ != nullptr) {
      Awaiter* waiter = head_;
      head_ = waiter->next_;
      waiter->next_ = in_order;
      in_order = waiter;
    }
    for (; in_order != nullptr; in_order = in_order->next_) loop_.Post(in_order->handle_);
  }

 private:
  Loop& loop_;
  Awaiter* head_ = nullptr;  // newest first
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_WAIT_LIST_H_
