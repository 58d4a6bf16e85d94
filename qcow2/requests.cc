#include "qcow2/requests.h"

namespace ringcow {

void Requests::Add(Entry& entry) {
  entry.ordinal_ = ++newest_;
  entry.previous_ = last_;
  entry.next_ = nullptr;
  (last_ != nullptr ? last_->next_ : first_) = &entry;
  last_ = &entry;
}

void Requests::Remove(Entry& entry) {
  (entry.previous_ != nullptr ? entry.previous_->next_ : first_) = entry.next_;
  (entry.next_ != nullptr ? entry.next_->previous_ : last_) = entry.previous_;
  if (first_ == nullptr && exclusive_ > 0) became_free_.WakeAll();
}

Task<Requests::Exclusive> Requests::BeginExclusive() {
  ++exclusive_;
  while (exclusive_held_ || first_ != nullptr) co_await became_free_.Wait();
  exclusive_held_ = true;
  co_return Exclusive(*this);
}

void Requests::EndExclusive() {
  exclusive_held_ = false;
  if (--exclusive_ > 0) {
    became_free_.WakeAll();
    return;
  }
  while (first_held_ != nullptr) {
    Entry& entry = *first_held_;
    first_held_ = entry.next_;
    Add(entry);
    loop_.Post(entry.handle_);
  }
  last_held_ = nullptr;
}

}  // namespace ringcow
