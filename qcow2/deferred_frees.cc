#include "qcow2/deferred_frees.h"

#include "engine/status_macros.h"

namespace ringcow {

void DeferredFrees::Add(ClusterRun run, Was was) {
  clusters_ += run.count;
  if (was == Was::kDiscarded) discarded_clusters_ += run.count;
  const Version removed = metadata_.write_back.now();
  const Requests::Ordinal last_user = requests_.newest();
  if (!empty()) {
    Pending& last = pending_.back();
    if (last.run.end() == run.first && last.was == was) {
      last.run.count += run.count;
      last.removed = removed;
      last.last_user = last_user;
      return;
    }
  }
  pending_.push_back({run, was, removed, last_user});
}

Task<absl::Status> DeferredFrees::Apply(Version durable) {
  if (empty()) co_return absl::OkStatus();
  const Mutex::Guard guard = co_await applying_.Lock();
  while (!empty()) {
    const Pending& oldest = pending_[next_];
    if (oldest.removed > durable || !requests_.HaveEnded(oldest.last_user)) break;
    const Pending next = TakeNext();
    const bool was_discarded = next.was == Was::kDiscarded;
    if (was_discarded) discarded_clusters_ -= next.run.count;
    // Before the refcounts fall to 0: from then on anybody may write there.
    if (was_discarded ? options_.request : options_.other) {
      CO_RETURN_IF_ERROR(co_await pass_discard_.GiveBack(next.run, /*refcount=*/1));
    }
    CO_RETURN_IF_ERROR(co_await allocator_.RemoveReference(next.run, next.was == Was::kL2Table));
  }
  co_return absl::OkStatus();
}

DeferredFrees::Pending DeferredFrees::TakeNext() {
  const Pending next = pending_[next_++];
  clusters_ -= next.run.count;
  // Each moves once for each that was taken.
  if (2 * next_ >= pending_.size()) {
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(next_));
    next_ = 0;
  }
  return next;
}

}  // namespace ringcow
