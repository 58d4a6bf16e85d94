#include "engine/worker_pool.h"

#include <sched.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "absl/memory/memory.h"
#include "engine/errno_status.h"
#include "engine/file_descriptor.h"
#include "engine/invariant.h"
#include "engine/ring.h"
#include "engine/rings.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr size_t kMostThreads = 16;

}  // namespace

// Wakes the loop when calls have returned: an eventfd, and a read of it on the data ring as long as
// any call is under way, where it holds back no drain of metadata.
class WorkerPool::Alarm final : public RingClient {
 public:
  Alarm(WorkerPool& pool, Rings& rings) : pool_(pool), rings_(rings) {}
  virtual ~Alarm() = default;

  absl::Status Open() {
    event_ = FileDescriptor(eventfd(0, EFD_CLOEXEC));
    return event_.get() >= 0 ? absl::OkStatus()
                             : ErrnoStatus(errno, "no eventfd for worker threads");
  }

  void Watch() {
    request_ = Request();
    request_.ring_client = this;
    rings_.Queue(request_);
  }

  // From any thread.
  void Ring() const {
    const int result = eventfd_write(event_.get(), 1);
    RINGCOW_INVARIANT(result == 0, "an eventfd that is read takes another event");
  }

  void Prepare(const Request& /*request*/, io_uring_sqe& sqe) override {
    io_uring_prep_read(&sqe, event_.get(), &events_, sizeof(events_), 0);
  }
  // Whatever the result: each call that has returned is found in done_.
  void Completed(Request& /*request*/, int /*result*/) override { pool_.Collect(); }

 private:
  WorkerPool& pool_;
  Rings& rings_;
  FileDescriptor event_;
  Request request_;
  uint64_t events_ = 0;
};

void WorkerPool::Queue::Push(Job& job) {
  job.next = nullptr;
  (last != nullptr ? last->next : first) = &job;
  last = &job;
}

WorkerPool::Job* WorkerPool::Queue::Pop() {
  Job* const job = first;
  if (job != nullptr) first = job->next;
  if (first == nullptr) last = nullptr;
  return job;
}

WorkerPool::WorkerPool(Loop& loop) : loop_(loop), max_threads_(0) {}

WorkerPool::WorkerPool(Rings& rings, size_t threads)
    : loop_(rings.loop()),
      max_threads_(std::max<size_t>(threads, 1)),
      alarm_(std::make_unique<Alarm>(*this, rings)) {}

absl::StatusOr<std::unique_ptr<WorkerPool>> WorkerPool::Create(Rings& rings, size_t threads) {
  if (threads == 0) return std::make_unique<WorkerPool>(rings.loop());
  auto pool = absl::WrapUnique(new WorkerPool(rings, threads));
  RETURN_IF_ERROR(pool->alarm_->Open());
  return pool;
}

size_t WorkerPool::ThreadsForThisMachine() {
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0) return 1;
  return std::clamp<size_t>(static_cast<size_t>(CPU_COUNT(&cpus)), 1, kMostThreads);
}

WorkerPool::~WorkerPool() {
  RINGCOW_INVARIANT(under_way_ == 0, "a worker pool outlives its calls");
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  has_work_.notify_all();
  for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
}

void WorkerPool::Start(Job& job) {
  job.called = false;
  if (threads_.size() < max_threads_ && threads_.size() <= under_way_) AddThread();
  if (threads_.empty()) {  // none wanted, or none to be had
    loop_.Post(job.waiter);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    waiting_.Push(job);
  }
  has_work_.notify_one();
  if (under_way_++ == 0) alarm_->Watch();
}

// Without memory for one more thread those that there are do the work.
void WorkerPool::AddThread() {
  pthread_t thread = {};
  if (pthread_create(&thread, nullptr, &WorkerPool::ThreadMain, this) == 0) {
    threads_.push_back(thread);
  }
}

void WorkerPool::Collect() {
  Queue done;
  {
    const std::lock_guard lock(mutex_);
    std::swap(done, done_);
  }
  while (Job* const job = done.Pop()) {
    loop_.Post(job->waiter);
    --under_way_;
  }
  if (under_way_ > 0) alarm_->Watch();
}

void* WorkerPool::ThreadMain(void* pool) {
  static_cast<WorkerPool*>(pool)->Work();
  return nullptr;
}

void WorkerPool::Work() {
  while (Job* const job = NextJob()) {
    job->call(*job);
    job->called = true;
    bool was_empty = false;
    {
      const std::lock_guard lock(mutex_);
      was_empty = done_.first == nullptr;
      done_.Push(*job);
    }
    // The job is the loop's again. One alarm is enough for all that is collected together.
    if (was_empty) alarm_->Ring();
  }
}

WorkerPool::Job* WorkerPool::NextJob() {
  std::unique_lock lock(mutex_);
  has_work_.wait(lock, [this] { return ends_ || waiting_.first != nullptr; });
  return waiting_.Pop();
}

}  // namespace ringcow
