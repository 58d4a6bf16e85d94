#ifndef RINGCOW_ENGINE_WORKER_POOL_H_
#define RINGCOW_ENGINE_WORKER_POOL_H_

#include <pthread.h>

#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/loop.h"

namespace ringcow {

class Rings;

// Threads beside a loop's thread, for what computes so long (compression) that I/O would wait for
// it:
//
//   co_await pool.Run([&] { bytes = compressor.Compress(from, into); });
//
// The function runs once, on some thread, with everything visible to it that was written before,
// and the coroutine goes on, on the loop's thread, when it has returned. Meanwhile all that the
// function uses is its own. It must not touch the loop, tasks or disks. Nothing is allocated for a
// call: function and bookkeeping lie in the waiting coroutine's frame.
//
// Threads are started when there is work for them, and end with the pool. A pool without threads
// calls the function on the loop's thread in its next turn: what happens then depends on the loop
// alone, as on a simulated disk it has to.
//
// Belongs to the loop's thread; must outlive its calls, and end before the loop and the rings.
class WorkerPool {
 public:
  // Without threads.
  explicit WorkerPool(Loop& loop);
  // At most `threads` of them. While calls are under way, a read of an eventfd is on the data ring.
  // Fails when there is no file descriptor left.
  static absl::StatusOr<std::unique_ptr<WorkerPool>> Create(Rings& rings, size_t threads);
  // As many as there are CPUs for this process, at most 16.
  static size_t ThreadsForThisMachine();

  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;
  ~WorkerPool();

  // How many calls there can be side by side: at least 1.
  size_t width() const { return max_threads_ > 0 ? max_threads_ : 1; }

 private:
  struct Job {
    // Calls the awaiter's function; the awaiter begins with its Job.
    void (*call)(Job& job) = nullptr;
    std::coroutine_handle<> waiter;
    Job* next = nullptr;
    bool called = false;
  };

 public:
  template <typename Function>
  class [[nodiscard]] Awaiter : private Job {
   public:
    Awaiter(WorkerPool& pool, Function function) : pool_(pool), function_(std::move(function)) {
      this->call = [](Job& job) { static_cast<Awaiter&>(job).function_(); };
    }
    Awaiter(const Awaiter&) = delete;
    Awaiter& operator=(const Awaiter&) = delete;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
      this->waiter = handle;
      pool_.Start(*this);
    }
    void await_resume() {
      if (!this->called) function_();
    }

   private:
    WorkerPool& pool_;
    Function function_;
  };

  // `function` takes nothing and returns nothing.
  template <typename Function>
  Awaiter<Function> Run(Function function) {
    return Awaiter<Function>(*this, std::move(function));
  }

 private:
  class Alarm;

  // First in, first out, linked by Job::next.
  struct Queue {
    Job* first = nullptr;
    Job* last = nullptr;

    void Push(Job& job);
    Job* Pop();
  };

  WorkerPool(Rings& rings, size_t threads);

  void Start(Job& job);
  void AddThread();
  // Posts the waiters of the calls that have returned.
  void Collect();

  // Of the threads:
  static void* ThreadMain(void* pool);
  void Work();
  Job* NextJob();

  Loop& loop_;
  const size_t max_threads_;
  std::unique_ptr<Alarm> alarm_;    // null without threads
  std::vector<pthread_t> threads_;  // the loop's thread's
  size_t under_way_ = 0;            // calls; the loop's thread's

  std::mutex mutex_;  // for what follows
  std::condition_variable has_work_;
  Queue waiting_;
  Queue done_;
  bool ends_ = false;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_WORKER_POOL_H_
