#ifndef RINGCOW_QCOW2_REQUESTS_H_
#define RINGCOW_QCOW2_REQUESTS_H_

#include <coroutine>
#include <cstddef>
#include <cstdint>

#include "engine/invariant.h"
#include "engine/loop.h"
#include "engine/task.h"
#include "engine/wait_list.h"

namespace ringcow {

// The guest requests of an image that are under way, oldest first.
//
// A request may be using a host cluster long after the L2 entry that led it there was removed: such
// a cluster must not be given to anybody else before the request has ended (HasEnded). And what
// changes how every cluster is owned (a snapshot, a new size) runs while no request is under way
// (Exclusive).
//
//   Requests::Entry entry(requests);
//   co_await entry;       // under way from here until `entry` goes out of scope
class Requests {
 public:
  explicit Requests(Loop& loop) : loop_(loop), became_free_(loop) {}
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;

  // A place in the order in which requests began.
  using Ordinal = uint64_t;

  class Entry {
   public:
    explicit Entry(Requests& requests) : requests_(requests) {}
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    ~Entry() {
      if (ordinal_ != 0) requests_.Remove(*this);
    }

    bool await_ready() {
      if (requests_.exclusive_ > 0) return false;
      requests_.Add(*this);
      return true;
    }
    void await_suspend(std::coroutine_handle<> handle) {
      handle_ = handle;
      (requests_.last_held_ != nullptr ? requests_.last_held_->next_ : requests_.first_held_) =
          this;
      requests_.last_held_ = this;
    }
    void await_resume() const noexcept {}

   private:
    friend class Requests;
    Requests& requests_;
    Ordinal ordinal_ = 0;
    std::coroutine_handle<> handle_;
    Entry* previous_ = nullptr;
    Entry* next_ = nullptr;
  };

  // While one lives, no request is under way and new ones wait.
  class [[nodiscard]] Exclusive {
   public:
    explicit Exclusive(Requests& requests) : requests_(&requests) {}
    Exclusive(Exclusive&& other) noexcept : requests_(other.requests_) {
      other.requests_ = nullptr;
    }
    Exclusive& operator=(Exclusive&&) = delete;
    ~Exclusive() {
      if (requests_ != nullptr) requests_->EndExclusive();
    }

   private:
    Requests* requests_;
  };

  // Lets the requests under way end, and keeps new ones out from here on. One at a time, others
  // wait. Not from within a request.
  Task<Exclusive> BeginExclusive();

  // The request that began last.
  Ordinal newest() const { return newest_; }
  // Whether that request and all that began before it have ended.
  bool HaveEnded(Ordinal ordinal) const { return first_ == nullptr || first_->ordinal_ > ordinal; }

 private:
  void Add(Entry& entry);
  void Remove(Entry& entry);
  void EndExclusive();

  Loop& loop_;
  Entry* first_ = nullptr;
  Entry* last_ = nullptr;
  Entry* first_held_ = nullptr;  // they wait for the end of an Exclusive; linked by next_
  Entry* last_held_ = nullptr;
  Ordinal newest_ = 0;
  size_t exclusive_ = 0;  // held or waited for
  bool exclusive_held_ = false;
  WaitList became_free_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_REQUESTS_H_
