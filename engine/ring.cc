#include "engine/ring.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iterator>
#include <thread>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/errno_status.h"
#include "engine/invariant.h"

namespace ringcow {
namespace {

// Flags that ringcow can do without, newest first.
struct OptionalFlags {
  unsigned flags = 0;
  absl::string_view without;
};

constexpr OptionalFlags kOptionalFlags[] = {
    {IORING_SETUP_DEFER_TASKRUN,
     "without IORING_SETUP_DEFER_TASKRUN (Linux 6.1) completions cost more"},
    {IORING_SETUP_SINGLE_ISSUER,
     "without IORING_SETUP_SINGLE_ISSUER (Linux 6.0) submissions cost a little more"},
    {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
     "without IORING_SETUP_COOP_TASKRUN (Linux 5.19) completions interrupt the thread"},
    {IORING_SETUP_SUBMIT_ALL,
     "without IORING_SETUP_SUBMIT_ALL (Linux 5.18) an invalid request delays those behind it"},
};

constexpr unsigned kTaskRunModes = IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN;

// The kernel refuses DEFER_TASKRUN without SINGLE_ISSUER or together with COOP_TASKRUN, and
// TASKRUN_FLAG without one of the two modes.
unsigned Consistent(unsigned flags) {
  if ((flags & IORING_SETUP_SINGLE_ISSUER) == 0) flags &= ~IORING_SETUP_DEFER_TASKRUN;
  if ((flags & IORING_SETUP_DEFER_TASKRUN) != 0) flags &= ~IORING_SETUP_COOP_TASKRUN;
  if ((flags & kTaskRunModes) == 0) flags &= ~IORING_SETUP_TASKRUN_FLAG;
  return flags;
}

absl::Status SetupError(int error) {
  switch (error) {
    case ENOSYS:
      return ErrnoStatus(error, "this kernel has no io_uring, which ringcow needs (Linux 5.15)");
    case EPERM:
    case EACCES:
      return ErrnoStatus(error,
                         "this process may not use io_uring (see the sysctl "
                         "kernel.io_uring_disabled and the container's seccomp profile)");
    case ENOMEM:
      return ErrnoStatus(error,
                         "io_uring cannot be set up (see the limit of locked memory, ulimit -l)");
    default:
      return ErrnoStatus(error, "io_uring cannot be set up");
  }
}

// What is asked for, and can be done without.
struct Wishes {
  unsigned flags = 0;
  unsigned sq_entries = 0;
  unsigned cq_entries = 0;
  const OptionalFlags* next_flags = std::begin(kOptionalFlags);
  bool is_smaller = false;
  int waits = 20;  // for memory
};

// Enough for a chain of each length that is used.
constexpr unsigned kFewestEntries = 16;
constexpr std::chrono::milliseconds kWaitForMemory(10);

// Asks for less, or later, when all of it was answered with `error`. False: there is nothing left
// to be done without.
bool Lower(Wishes& wishes, int error, std::vector<std::string>& notices) {
  if (error == ENOMEM && wishes.sq_entries >= 2 * kFewestEntries) {
    if (!std::exchange(wishes.is_smaller, true)) {
      notices.emplace_back(
          "io_uring: a ring is smaller than usual, for want of memory that may be locked "
          "(ulimit -l)");
    }
    wishes.sq_entries /= 2;
    wishes.cq_entries /= 2;
    return true;
  }
  // Of the memory that a user may lock rings of processes that ended a moment ago have some still.
  if (error == ENOMEM && wishes.waits-- > 0) {
    std::this_thread::sleep_for(kWaitForMemory);
    return true;
  }
  wishes.next_flags = std::find_if(
      wishes.next_flags, std::end(kOptionalFlags),
      [&wishes](const OptionalFlags& optional) { return (wishes.flags & optional.flags) != 0; });
  if (error != EINVAL || wishes.next_flags == std::end(kOptionalFlags)) return false;
  wishes.flags &= ~wishes.next_flags->flags;
  notices.push_back(absl::StrCat("io_uring: ", wishes.next_flags->without));
  return true;
}

// What user_data says when it is not a Request: these are never dereferenced.
constexpr uint64_t kIgnored = 0;
constexpr uint64_t kWatch = 1;

// The watch and its removal.
constexpr unsigned kOwnSqes = 2;

}  // namespace

absl::StatusOr<std::unique_ptr<Ring>> Ring::Create(const Setup& setup, RingCounters& counters,
                                                   std::vector<std::string>& notices) {
  auto ring = absl::WrapUnique(new Ring(counters));
  Wishes wishes{
      .flags = setup.flags, .sq_entries = setup.sq_entries, .cq_entries = setup.cq_entries};
  while (true) {
    io_uring_params params{};
    params.flags = Consistent(wishes.flags) | IORING_SETUP_CQSIZE;
    // The longest chain must fit, or it would wait in the queue for good.
    params.cq_entries = std::max(wishes.cq_entries, 2 * wishes.sq_entries + kOwnSqes);
    const int result = io_uring_queue_init_params(wishes.sq_entries, &ring->ring_, &params);
    if (result == 0) break;
    ring->ring_.ring_fd = -1;
    if (!Lower(wishes, -result, notices)) return SetupError(-result);
  }
  // A wait with a timeout needs no SQE of its own since Linux 5.11.
  if ((ring->ring_.features & IORING_FEAT_EXT_ARG) != 0) ring->batch_share_ = setup.batch_share;
  ring->batch_nanoseconds_ = setup.batch_nanoseconds;
  // Saves each call of the kernel looking the ring up (Linux 5.18); it does as well without.
  (void)io_uring_register_ring_fd(&ring->ring_);
  return ring;
}

Ring::~Ring() {
  if (ring_.ring_fd >= 0) io_uring_queue_exit(&ring_);
}

void Ring::Queue(Request& request) {
  request.next = nullptr;
  (last_ != nullptr ? last_->next : first_) = &request;
  last_ = &request;
  ++requests_;
}

void Ring::Queue(Chain& chain) {
  RINGCOW_INVARIANT(chain.size() <= max_chain(), "a chain is submitted whole");
  for (Request& member : chain.members()) Queue(member);
}

void Ring::Submit() {
  LayQueue();
  const unsigned kernel_flags = IO_URING_READ_ONCE(*ring_.sq.kflags);
  if (io_uring_sq_ready(&ring_) > 0 ||
      (kernel_flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0) {
    Enter(0);
  }
}

// A lone chain is waited for as a whole: its middle members wake nobody, and it costs one call.
void Ring::SubmitAndWait() {
  LayQueue();
  if (one_chain_) {
    Enter(in_flight_);
  } else if (const unsigned batch = BatchSize(); batch > 1) {
    EnterForBatch(batch);
  } else {
    Enter(1);
  }
}

int Ring::SetMemory(unsigned slot, std::span<std::byte> memory) {
  if (!has_memory_) {
    if (const int result = io_uring_register_buffers_sparse(&ring_, kMemorySlots); result != 0) {
      return -result;
    }
    has_memory_ = true;
  }
  const iovec vector{memory.data(), memory.size()};
  const __u64 tag = 0;
  const int result = io_uring_register_buffers_update_tag(&ring_, slot, &vector, &tag, 1);
  return result < 0 ? -result : 0;
}

int Ring::SetFile(unsigned slot, int fd) {
  if (!has_files_) {
    if (const int result = io_uring_register_files_sparse(&ring_, kFileSlots); result != 0) {
      return -result;
    }
    has_files_ = true;
  }
  const int result = io_uring_register_files_update(&ring_, slot, &fd, 1);
  return result < 0 ? -result : 0;
}

unsigned Ring::BatchSize() const {
  return batch_share_ == 0 ? 1 : static_cast<unsigned>(in_flight_ / batch_share_);
}

void Ring::LayQueue() {
  while (first_ != nullptr) {
    const size_t count = SizeOfFirst();
    if (in_flight_ + count + kOwnSqes > ring_.cq.ring_entries) return;
    const bool drained = first_->chain != nullptr && first_->chain->drained();
    if (drained && !EndWatch()) return;
    if (!MakeRoom(count)) return;
    LayFirst(count, drained);
  }
}

void Ring::LayFirst(size_t count, bool drained) {
  const bool alone = in_flight_ == 0;
  const bool is_chain = first_->chain != nullptr;
  for (size_t i = 0; i < count; ++i) {
    Request& request = TakeFirst();
    io_uring_sqe& sqe = NextSqe();
    request.ring_client->Prepare(request, sqe);
    io_uring_sqe_set_data(&sqe, &request);
    if (i + 1 < count) sqe.flags |= IOSQE_IO_LINK;
    if (i == 0 && drained) {
      sqe.flags |= IOSQE_IO_DRAIN;
      drained_ = true;
    }
  }
  one_chain_ = alone && is_chain;
}

size_t Ring::SizeOfFirst() const { return first_->chain == nullptr ? 1 : first_->chain->size(); }

Request& Ring::TakeFirst() {
  Request& request = *first_;
  first_ = request.next;
  if (first_ == nullptr) last_ = nullptr;
  return request;
}

bool Ring::HasLoneFsync() const {
  if (first_ == nullptr || io_uring_sq_ready(&ring_) > 0) return false;
  if (requests_ != SizeOfFirst()) return false;
  for (const Request* request = first_; request != nullptr; request = request->next) {
    if (request->op == Op::kFdatasync) return true;
  }
  return false;
}

void Ring::FinishLoneFsync() {
  bool failed = false;
  while (first_ != nullptr) {
    if (failed) {
      Complete(TakeFirst(), -ECANCELED);
    } else if (first_->op == Op::kFdatasync) {
      Request& request = TakeFirst();
      ++counters_.enters;
      Complete(request, request.ring_client->Synchronize());
      failed = request.error != 0;
    } else {
      failed = !FinishUpToFsync();
    }
  }
}

// Whether all has succeeded. The requests stay where they are until the loop's next turn.
bool Ring::FinishUpToFsync() {
  const Request* const begin = first_;
  size_t count = 0;
  for (const Request* request = begin; request != nullptr && request->op != Op::kFdatasync;
       request = request->next) {
    ++count;
  }
  const size_t behind = requests_ - count;
  LayFirst(count, /*drained=*/false);
  while (requests_ > behind) {
    Enter(static_cast<unsigned>(requests_ - behind));
    Reap();
  }
  bool succeeded = true;
  for (const Request* request = begin; request != first_; request = request->next) {
    succeeded &= request->error == 0;
  }
  return succeeded;
}

bool Ring::MakeRoom(size_t sqes) {
  if (io_uring_sq_space_left(&ring_) < sqes) Enter(0);
  return io_uring_sq_space_left(&ring_) >= sqes;
}

io_uring_sqe& Ring::NextSqe() {
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  RINGCOW_INVARIANT(sqe != nullptr, "room in the SQ is made before it is used");
  ++in_flight_;
  ++counters_.sqes;
  one_chain_ = false;
  return *sqe;
}

void Ring::Watch(const Ring& other) {
  if (watching_ || drained_ || !MakeRoom(1)) return;
  io_uring_sqe& sqe = NextSqe();
  io_uring_prep_poll_add(&sqe, other.ring_.ring_fd, POLLIN);
  sqe.user_data = kWatch;
  watching_ = true;
}

// Withdraws the watch ahead of a drain, which would wait for it. False when there is no room.
bool Ring::EndWatch() {
  if (!watching_) return true;
  if (!MakeRoom(1)) return false;
  io_uring_sqe& sqe = NextSqe();
  io_uring_prep_poll_remove(&sqe, kWatch);
  sqe.user_data = kIgnored;
  watching_ = false;
  return true;
}

void Ring::Enter(unsigned wait_for) {
  const int result = wait_for > 0 ? io_uring_submit_and_wait(&ring_, wait_for)
                                  : io_uring_submit_and_get_events(&ring_);
  CheckEntered(result);
}

void Ring::EnterForBatch(unsigned wait_for) {
  // Whether anything has completed.
  const auto enter = [this](unsigned count, int64_t nanoseconds) {
    constexpr int64_t kSecond = 1'000'000'000;
    __kernel_timespec longest{.tv_sec = nanoseconds / kSecond, .tv_nsec = nanoseconds % kSecond};
    io_uring_cqe* first = nullptr;
    const int result = io_uring_submit_and_wait_timeout(&ring_, &first, count, &longest, nullptr);
    CheckEntered(result);
    return result != -ETIME || io_uring_cq_ready(&ring_) > 0;
  };
  const int64_t counted = std::min(static_cast<int64_t>(in_flight_), kLongestBatch);
  // None in all that time: the storage is slow, and looking again and again would be polling.
  constexpr int64_t kSlow = 100'000'000;
  if (!enter(wait_for, counted * batch_nanoseconds_)) enter(1, kSlow);
}

void Ring::CheckEntered(int result) {
  ++counters_.enters;
  // A signal, or no memory for the moment: what was not consumed stays in the SQ for the next call.
  RINGCOW_INVARIANT(result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN ||
                        result == -EBUSY || result == -ENOMEM,
                    "a ring is entered by its own thread with valid arguments");
  BreakCutChain();
}

// When the kernel runs out of memory between the members of a chain, it starts what it has got as
// a chain of its own, and would start the rest as another one, without regard to the first one's
// failures. So the rest is made to fail.
void Ring::BreakCutChain() {
  if (io_uring_sq_ready(&ring_) == 0) return;
  const unsigned head = io_uring_smp_load_acquire(ring_.sq.khead);
  const unsigned mask = ring_.sq.ring_mask;
  if ((ring_.sq.sqes[(head - 1) & mask].flags & IOSQE_IO_LINK) != 0) {
    ring_.sq.sqes[head & mask].fd = -1;
  }
}

void Ring::Reap() {
  unsigned head = 0;
  unsigned reaped = 0;
  const io_uring_cqe* cqe = nullptr;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    ++reaped;
    Dispatch(*cqe);
  }
  if (reaped == 0) return;
  io_uring_cq_advance(&ring_, reaped);
  counters_.cqes += reaped;
  in_flight_ -= reaped;
}

void Ring::Dispatch(const io_uring_cqe& cqe) {
  if (cqe.user_data == kIgnored) return;
  if (cqe.user_data == kWatch) {
    watching_ = false;
    return;
  }
  Complete(*static_cast<Request*>(io_uring_cqe_get_data(&cqe)), cqe.res);
}

void Ring::Complete(Request& request, int result) {
  --requests_;
  request.ring_client->Completed(request, result);
}

}  // namespace ringcow
