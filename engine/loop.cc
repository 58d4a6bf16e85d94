#include "engine/loop.h"

#include <cstddef>

#include "engine/invariant.h"

namespace ringcow {

Loop::~Loop() {
  RINGCOW_INVARIANT(sources_.empty(), "disks and rings are destroyed before their loop");
}

void Loop::AddSource(CompletionSource& source) { sources_.push_back(&source); }

void Loop::RemoveSource(CompletionSource& source) {
  RINGCOW_INVARIANT(source.outstanding() == 0, "a disk is destroyed only when it is idle");
  std::erase(sources_, &source);
}

void Loop::TurnUntil(const bool& done) {
  while (!done) {
    running_.swap(ready_);
    is_resuming_ = true;
    // More may come while they run.
    size_t next = 0;
    while (next < running_.size()) running_[next++].resume();
    is_resuming_ = false;
    running_.clear();

    for (CompletionSource* source : sources_) source->Reap();
    if (done || !ready_.empty()) {
      for (CompletionSource* source : sources_) source->Submit();
    } else {
      SubmitAndWait();
    }
  }
}

// Sleeps in the first source that has work. A loop has one set of rings (which wait for all disks
// at once) or simulated disks (which never block), so no source is starved by another's wait.
void Loop::SubmitAndWait() {
  CompletionSource* sleeper = nullptr;
  for (CompletionSource* source : sources_) {
    if (sleeper == nullptr && source->outstanding() > 0) {
      sleeper = source;
    } else {
      source->Submit();
    }
  }
  RINGCOW_INVARIANT(sleeper != nullptr,
                    "every task of the loop waits for something that nobody will do");
  sleeper->Wait();
  sleeper->Reap();
}

}  // namespace ringcow
