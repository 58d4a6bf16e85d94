#include "engine/range_lock.h"

#include <utility>

namespace ringcow {

bool RangeLock::Add(Hold& hold) {
  hold.queued_ = true;
  hold.previous_ = last_;
  (last_ != nullptr ? last_->next_ : first_) = &hold;
  last_ = &hold;
  return !OverlapsBefore(&hold, hold.begin_, hold.end_);
}

void RangeLock::Remove(Hold& hold) {
  (hold.previous_ != nullptr ? hold.previous_->next_ : first_) = hold.next_;
  (hold.next_ != nullptr ? hold.next_->previous_ : last_) = hold.previous_;
  for (Hold* waiting = hold.next_; waiting != nullptr; waiting = waiting->next_) {
    if (!waiting->waiter_) continue;
    if (OverlapsBefore(waiting, waiting->begin_, waiting->end_)) continue;
    loop_.Post(std::exchange(waiting->waiter_, {}));
  }
}

bool RangeLock::OverlapsBefore(const Hold* last, uint64_t begin, uint64_t end) const {
  for (const Hold* hold = first_; hold != last; hold = hold->next_) {
    if (hold->begin_ < end && begin < hold->end_) return true;
  }
  return false;
}

}  // namespace ringcow
