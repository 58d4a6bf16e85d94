#ifndef RINGCOW_ENGINE_SCOPE_H_
#define RINGCOW_ENGINE_SCOPE_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/invariant.h"
#include "engine/loop.h"
#include "engine/task.h"
#include "engine/wait_list.h"

namespace ringcow {

// Tasks that run side by side and are waited for together, so that none outlives what it uses:
//
//   Scope scope(loop);
//   scope.Spawn(A());
//   scope.Spawn(B());
//   absl::Status first_failure = co_await scope.Join();
//
// A failure does not stop the others: their I/O is under way. After Join the scope can be used
// again. It must be empty (joined) when it is destroyed.
class Scope {
 public:
  explicit Scope(Loop& loop) : all_done_(loop) {}
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  ~Scope() { RINGCOW_INVARIANT(running_ == 0, "a scope is joined before it ends"); }

  // Runs the task until its first suspension.
  void Spawn(Task<absl::Status> task) {
    ++running_;
    StartDetached(RunOne(std::move(task)));
  }

  size_t running() const { return running_; }

  // The status of the task that failed first, in time, since the last Join; OK when none did.
  Task<absl::Status> Join() {
    while (running_ > 0) co_await all_done_.Wait();
    co_return std::exchange(first_failure_, absl::OkStatus());
  }

 private:
  Task<void> RunOne(Task<absl::Status> task) {
    first_failure_.Update(co_await std::move(task));
    if (--running_ == 0) all_done_.WakeAll();
  }

  size_t running_ = 0;
  absl::Status first_failure_;
  WaitList all_done_;
};

inline Task<absl::Status> AllOf(Loop& loop, std::vector<Task<absl::Status>> tasks) {
  Scope scope(loop);
  for (Task<absl::Status>& task : tasks) scope.Spawn(std::move(task));
  co_return co_await scope.Join();
}

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_SCOPE_H_
