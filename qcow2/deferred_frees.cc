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
    // Before the refcounts fall to 0: from then on anybody may write there.
    if (next.was == Was::kDiscarded) {
      discarded_clusters_ -= next.run.count;
      CO_RETURN_IF_ERROR(co_await Punch(next.run));
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

// Parts of `run` that have other references stay.
Task<absl::Status> DeferredFrees::Punch(ClusterRun run) {
  const Geometry& geometry = metadata_.geometry;
  // Else compressed data could come to lie behind this while it is being punched.
  co_await allocator_.LeaveUnpacked(run);
  ClusterRun punched{run.first, 0};
  while (can_punch_ && punched.end() <= run.end()) {
    if (punched.end() < run.end()) {
      CO_ASSIGN_OR_RETURN(const uint64_t refcount,
                          co_await allocator_.refcounts().Get(punched.end()));
      if (refcount == 1) {
        ++punched.count;
        continue;
      }
    }
    if (punched.count > 0) {
      CO_RETURN_IF_ERROR(metadata_.guard.BeforeWrite(geometry.OffsetOf(punched.first),
                                                     punched.count * geometry.cluster_bytes(),
                                                     OverlapGuard::Own::kNothing));
      const absl::Status status = co_await metadata_.disk.Punch(
          geometry.OffsetOf(punched.first), punched.count * geometry.cluster_bytes());
      // Space that is not given back is no failure of what the guest asked for.
      if (!status.ok()) can_punch_ = false;
    }
    punched = {punched.end() + 1, 0};
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
