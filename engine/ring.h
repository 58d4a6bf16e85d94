#ifndef RINGCOW_ENGINE_RING_H_
#define RINGCOW_ENGINE_RING_H_

#include <liburing.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/chain.h"
#include "engine/counters.h"
#include "engine/request.h"

namespace ringcow {

// Whose requests a ring carries: it knows the file and what to do about a completion.
class RingClient {
 public:
  // Fills `sqe`; the flags that link and drain, and user_data, are the ring's.
  virtual void Prepare(const Request& request, io_uring_sqe& sqe) = 0;
  // `result` is the CQE's: bytes or a negative errno.
  virtual void Completed(Request& request, int result) = 0;
  // Does a kFdatasync in this thread, which waits for it, and returns what a CQE would say. For
  // those that have any.
  virtual int Synchronize() { return -EINVAL; }

 protected:
  ~RingClient() = default;
};

// One io_uring. Requests are queued in the order of the calls (through Request::next, so nothing is
// allocated) and become SQEs when the ring submits. No more are in flight than the CQ can hold, so
// it never overflows; the rest waits in the queue.
//
// A chain's SQEs lie in the SQ together and are consumed by one io_uring_enter: a chain ends at the
// submit boundary, and its second half would run although the first had failed. Where it is cut on
// purpose, at the fsyncs of a lone chain, the ring waits for each part and looks at it.
//
// Belongs to the thread that created it (IORING_SETUP_SINGLE_ISSUER).
class Ring {
 public:
  struct Setup {
    unsigned sq_entries = 0;
    unsigned cq_entries = 0;
    unsigned flags = 0;  // IORING_SETUP_*; those the kernel does not know are left out
    // A thread that has nothing else to do sleeps until one in so many of the requests in flight
    // has completed, or so long for each of them (at most kLongestBatch of them count): one call of
    // the kernel, and one turn of the loop, then serve a batch. 0: until the first has completed.
    unsigned batch_share = 0;
    int64_t batch_nanoseconds = 0;
  };

  static constexpr int64_t kLongestBatch = 32;

  // Adds a sentence to `notices` for every flag that the kernel does not know. The counters must
  // outlive the ring.
  static absl::StatusOr<std::unique_ptr<Ring>> Create(const Setup& setup, RingCounters& counters,
                                                      std::vector<std::string>& notices);
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring();

  // request.ring_client is set; the request stays where it is until Completed is called for it.
  void Queue(Request& request);
  // All members; at most max_chain() of them.
  void Queue(Chain& chain);

  // Enters the kernel if there is something to hand over or to collect.
  void Submit();
  // Enters the kernel once, and stays there until there are completions to reap (see
  // Setup::batch_share), or a signal came.
  void SubmitAndWait();
  // Calls Completed for what the kernel has completed. No system call.
  void Reap();

  // Whether one request or one chain is all that there is on this ring, nothing of it was submitted
  // yet, and it has an fsync.
  bool HasLoneFsync() const;
  // Sees it through, and reaps it. io_uring leaves an fsync to a worker thread, which it has to
  // wake up and which wakes this one in turn; here this thread calls fdatasync. Meanwhile it takes
  // nothing else up: only for when nothing else can come up.
  void FinishLoneFsync();

  // Wakes this ring's next SubmitAndWait when `other` has completions. Costs an SQE each time. Does
  // nothing from the first drained chain on: a drain waits for every request before it, and those
  // behind it wait for each other (Linux 6.18), so a poll among them would hold up the ring.
  void Watch(const Ring& other);

  // Registers memory in place `slot` (below kMemorySlots) of the ring's table: reads and writes in
  // it save pinning its pages. Empty memory takes a slot out. An errno, 0 on success.
  static constexpr unsigned kMemorySlots = 64;
  int SetMemory(unsigned slot, std::span<std::byte> memory);

  // Registers a file in place `slot` (below kFileSlots) of the ring's table, which keeps it open:
  // SQEs with IOSQE_FIXED_FILE save looking it up. -1 takes a slot out. An errno, 0 on success.
  static constexpr unsigned kFileSlots = 64;
  int SetFile(unsigned slot, int fd);

  size_t requests() const { return requests_; }  // queued and in flight
  size_t max_chain() const { return ring_.sq.ring_entries; }
  unsigned flags() const { return ring_.flags; }  // the IORING_SETUP_* in force

 private:
  explicit Ring(RingCounters& counters) : counters_(counters) { ring_.ring_fd = -1; }

  void LayQueue();
  void LayFirst(size_t count, bool drained);
  size_t SizeOfFirst() const;  // of the queue: a request, or all members of its chain
  Request& TakeFirst();
  bool FinishUpToFsync();
  bool MakeRoom(size_t sqes);
  io_uring_sqe& NextSqe();
  bool EndWatch();
  void Enter(unsigned wait_for);
  unsigned BatchSize() const;
  void EnterForBatch(unsigned wait_for);
  void CheckEntered(int result);
  void BreakCutChain();
  void Dispatch(const io_uring_cqe& cqe);
  void Complete(Request& request, int result);

  RingCounters& counters_;
  unsigned batch_share_ = 0;
  int64_t batch_nanoseconds_ = 0;
  bool has_memory_ = false;
  bool has_files_ = false;
  io_uring ring_{};
  Request* first_ = nullptr;  // the queue
  Request* last_ = nullptr;
  size_t requests_ = 0;
  size_t in_flight_ = 0;    // SQEs whose CQE was not reaped, the watch included
  bool one_chain_ = false;  // all that is in flight is a single chain
  bool drained_ = false;    // a drained chain was submitted here
  bool watching_ = false;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_RING_H_
