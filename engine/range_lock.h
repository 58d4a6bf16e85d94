#ifndef RINGCOW_ENGINE_RANGE_LOCK_H_
#define RINGCOW_ENGINE_RANGE_LOCK_H_

#include <coroutine>
#include <cstdint>

#include "engine/loop.h"

namespace ringcow {

// Exclusive locks on ranges [begin, end) of any 64-bit quantity. Ranges that do not overlap are
// held at the same time; those that overlap are granted in the order in which they were asked for.
//
//   RangeLock::Hold hold(locks, begin, end);
//   co_await hold;      // exclusive from here until `hold` goes out of scope
//
// Allocates nothing. The cost is linear in the number of ranges held and waited for.
class RangeLock {
 public:
  explicit RangeLock(Loop& loop) : loop_(loop) {}
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;

  class Hold {
   public:
    Hold(RangeLock& locks, uint64_t begin, uint64_t end)
        : locks_(locks), begin_(begin), end_(end) {}
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold() {
      if (queued_) locks_.Remove(*this);
    }

    bool await_ready() { return locks_.Add(*this); }
    void await_suspend(std::coroutine_handle<> waiter) { waiter_ = waiter; }
    void await_resume() const noexcept {}

   private:
    friend class RangeLock;
    RangeLock& locks_;
    const uint64_t begin_;
    const uint64_t end_;
    bool queued_ = false;
    std::coroutine_handle<> waiter_;  // null once granted
    Hold* next_ = nullptr;
    Hold* previous_ = nullptr;
  };

  bool empty() const { return first_ == nullptr; }
  // Whether a range that overlaps [begin, end) is held or waited for.
  bool Overlaps(uint64_t begin, uint64_t end) const { return OverlapsBefore(nullptr, begin, end); }

 private:
  // Queues the hold; true when it is granted at once.
  bool Add(Hold& hold);
  void Remove(Hold& hold);
  // Looks at the entries queued before `last` (all, when it is null).
  bool OverlapsBefore(const Hold* last, uint64_t begin, uint64_t end) const;

  Loop& loop_;
  Hold* first_ = nullptr;  // in the order of asking
  Hold* last_ = nullptr;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_RANGE_LOCK_H_
