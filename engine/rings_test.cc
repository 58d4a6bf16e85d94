#include "engine/rings.h"

#include <dlfcn.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/scope.h"
#include "engine/uring_disk.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace {

// Stand-ins for other kernels than the one that runs the test: they come before liburing's own.
struct SimulatedKernel {
  int setup_error = 0;
  unsigned unknown_setup_flags = 0;
  unsigned most_entries = ~0U;         // that there is memory for
  unsigned most_entries_later = 0;     // and when that was not enough for the smallest ring
  unsigned consumes_at_most = 0;       // SQEs, in the next call that waits; 0: no limit
  std::vector<unsigned> batches = {};  // what was waited for with a timeout, call by call
  int fdatasync_error = 0;
  unsigned fdatasyncs = 0;  // calls
};
SimulatedKernel simulated;

template <typename Function>
Function Liburing(Function, const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" int io_uring_queue_init_params(unsigned entries, io_uring* ring,
                                          io_uring_params* params) {
  if (simulated.setup_error != 0) return -simulated.setup_error;
  if (entries > simulated.most_entries) {
    if (entries <= 16) simulated.most_entries = simulated.most_entries_later;
    return -ENOMEM;
  }
  if ((params->flags & simulated.unknown_setup_flags) != 0) return -EINVAL;
  return Liburing(&io_uring_queue_init_params, "io_uring_queue_init_params")(entries, ring, params);
}

extern "C" int io_uring_submit_and_wait(io_uring* ring, unsigned wait_nr) {
  if (const unsigned limit = std::exchange(simulated.consumes_at_most, 0); limit > 0) {
    ring->sq.sqe_head = ring->sq.sqe_tail;
    io_uring_smp_store_release(ring->sq.ktail, ring->sq.sqe_tail);
    return static_cast<int>(syscall(__NR_io_uring_enter, ring->ring_fd, limit, 0, 0, nullptr, 0));
  }
  return Liburing(&io_uring_submit_and_wait, "io_uring_submit_and_wait")(ring, wait_nr);
}

extern "C" int fdatasync(int /*fd*/) {
  ++simulated.fdatasyncs;
  errno = simulated.fdatasync_error;
  return simulated.fdatasync_error == 0 ? 0 : -1;
}

extern "C" int io_uring_submit_and_wait_timeout(io_uring* ring, io_uring_cqe** cqe,
                                                unsigned wait_nr, __kernel_timespec* timeout,
                                                sigset_t* signals) {
  simulated.batches.push_back(wait_nr);
  return Liburing(&io_uring_submit_and_wait_timeout, "io_uring_submit_and_wait_timeout")(
      ring, cqe, wait_nr, timeout, signals);
}

namespace ringcow {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe(ends_.data()), 0); }
  ~Pipe() {
    for (const int end : ends_) close(end);
  }
  int read_end() const { return ends_[0]; }
  void MakeReadable() const { EXPECT_EQ(write(ends_[1], "x", 1), 1); }

 private:
  std::array<int, 2> ends_{};
};

// Requests that complete when the test wants it: those with a pipe when it becomes readable, the
// others at once; `length` is not looked at.
class FakeClient final : public RingClient {
 public:
  explicit FakeClient(Rings& rings) : rings_(rings) {}

  void Prepare(const Request& request, io_uring_sqe& sqe) override {
    ++in_flight;
    most_in_flight = std::max(most_in_flight, in_flight);
    if (const void* pipe = request.single.iov_base; pipe != nullptr) {
      io_uring_prep_poll_add(&sqe, static_cast<const Pipe*>(pipe)->read_end(), POLLIN);
    } else {
      io_uring_prep_nop(&sqe);
    }
  }
  void Completed(Request& request, int result) override {
    --in_flight;
    request.error = result < 0 ? -result : 0;
    if (request.waiter) rings_.loop().Post(request.waiter);
  }

  struct Awaiter {
    Rings& rings;
    Request request;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      request.waiter = waiter;
      rings.Queue(request);
    }
    void await_resume() const { EXPECT_EQ(request.error, 0); }
  };
  Awaiter Await(Lane lane, Pipe* pipe = nullptr) {
    Request request;
    request.lane = lane;
    request.single = {pipe, 0};
    request.ring_client = this;
    return Awaiter{rings_, request};
  }

  size_t in_flight = 0;
  size_t most_in_flight = 0;

 private:
  Rings& rings_;
};

Task<absl::Status> AwaitOne(FakeClient& client, Lane lane, Pipe* pipe = nullptr) {
  co_await client.Await(lane, pipe);
  co_return absl::OkStatus();
}

class RingsTest : public testing::Test {
 public:
  ~RingsTest() override { simulated = SimulatedKernel(); }

  void Open(const Rings::Options& options = {}) {
    auto created = Rings::Create(loop, options);
    ASSERT_TRUE(created.ok()) << created.status();
    rings = *std::move(created);
    client = std::make_unique<FakeClient>(*rings);
    UringDisk::Options disk_options;
    disk_options.creation = UringDisk::Creation::kIfMissing;
    auto opened = UringDisk::Open(*rings, testing::TempDir() + "/rings_test.img", disk_options);
    ASSERT_TRUE(opened.ok()) << opened.status();
    disk = *std::move(opened);
    std::memset(block.data(), 0x5a, block.size());
  }

  Chain WriteFsyncWrite() {
    Chain chain = disk->NewChain();
    chain.Write(HostOffset(0), block.span(), Content::kRefcountBlock)
        .Fdatasync()
        .Write(HostOffset(4096), block.span(), Content::kL2);
    return chain;
  }

  Loop loop;
  std::unique_ptr<Rings> rings;
  std::unique_ptr<FakeClient> client;
  std::unique_ptr<UringDisk> disk;
  AlignedBuffer block{4096};
};

TEST_F(RingsTest, WhatIsQueuedInATurnIsHandedOverByOneEnter) {
  Open();
  loop.Run([](RingsTest& test) -> Task<void> {
    co_await test.loop.Yield();  // into the loop's first turn
    Scope scope(test.loop);
    for (int i = 0; i < 100; ++i) scope.Spawn(AwaitOne(*test.client, Lane::kData));
    EXPECT_EQ(test.rings->counters().enters, 0U);
    co_await test.loop.Yield();
    EXPECT_EQ(test.rings->counters().enters, 1U);
    EXPECT_EQ(test.rings->counters().sqes, 100U);
    EXPECT_TRUE((co_await scope.Join()).ok());
    EXPECT_EQ(test.rings->counters().cqes, 100U);
  }(*this));
  EXPECT_EQ(rings->outstanding(), 0U);
}

TEST_F(RingsTest, AnIdleTurnSubmitsAndSleepsInOneEnter) {
  Open();
  loop.Run([](RingsTest& test) -> Task<void> {
    for (int i = 0; i < 10; ++i) {
      EXPECT_TRUE((co_await test.disk->Write(HostOffset(0), test.block.span())).ok());
    }
  }(*this));
  EXPECT_EQ(rings->counters().enters, 10U);
  EXPECT_EQ(rings->counters().sqes, 10U);
}

// What is slow completes only when what is quick has been noticed, though the thread would like to
// wait for ten at a time.
TEST_F(RingsTest, SlowRequestsDoNotHoldUpQuickOnes) {
  Open({.batch_share = 3});
  std::vector<Pipe> pipes(30);
  loop.Run([](RingsTest& test, std::span<Pipe> slow) -> Task<void> {
    Scope scope(test.loop);
    for (Pipe& pipe : slow) scope.Spawn(AwaitOne(*test.client, Lane::kData, &pipe));
    (void)co_await AwaitOne(*test.client, Lane::kData);
    for (const Pipe& pipe : slow) pipe.MakeReadable();
    EXPECT_TRUE((co_await scope.Join()).ok());
  }(*this, pipes));
  EXPECT_EQ(rings->outstanding(), 0U);
}

TEST_F(RingsTest, ACallWaitsForABatchOfCompletions) {
  Open({.batch_share = 3});
  std::vector<Pipe> pipes(30);
  for (const Pipe& pipe : pipes) pipe.MakeReadable();
  loop.Run([](RingsTest& test, std::span<Pipe> readable) -> Task<void> {
    Scope scope(test.loop);
    for (Pipe& pipe : readable) scope.Spawn(AwaitOne(*test.client, Lane::kData, &pipe));
    EXPECT_TRUE((co_await scope.Join()).ok());
  }(*this, pipes));
  ASSERT_FALSE(simulated.batches.empty());
  EXPECT_EQ(simulated.batches[0], 10U);
}

// After each call that was in vain, one waits for as long as it takes.
TEST_F(RingsTest, SlowStorageIsNotPolled) {
  Open({.batch_share = 3});
  std::vector<Pipe> pipes(30);
  std::thread completes([&pipes] {
    for (const Pipe& pipe : pipes) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      pipe.MakeReadable();
    }
  });
  loop.Run([](RingsTest& test, std::span<Pipe> slow) -> Task<void> {
    Scope scope(test.loop);
    for (Pipe& pipe : slow) scope.Spawn(AwaitOne(*test.client, Lane::kData, &pipe));
    EXPECT_TRUE((co_await scope.Join()).ok());
  }(*this, pipes));
  completes.join();
  const auto batches = std::ranges::count_if(simulated.batches, [](unsigned n) { return n > 1; });
  EXPECT_LE(batches, 30);
}

// No other thread has to wake up for it, nor to wake this one.
TEST_F(RingsTest, ALoneFsyncIsACallOfTheThread) {
  Open();
  loop.Run([](RingsTest& test) -> Task<void> {
    Chain chain = test.WriteFsyncWrite();
    chain.Fdatasync();
    EXPECT_EQ(co_await chain, absl::OkStatus());
    EXPECT_EQ(simulated.fdatasyncs, 2U);
    EXPECT_EQ(co_await test.disk->Fdatasync(), absl::OkStatus());
    EXPECT_EQ(simulated.fdatasyncs, 3U);
  }(*this));
  EXPECT_EQ(rings->counters().enters, 5U);
  EXPECT_EQ(rings->counters().sqes, 2U);
  EXPECT_EQ(rings->counters().cqes, 2U);
}

// The watch over the metadata ring is on the data ring still, and completes there when it likes.
TEST_F(RingsTest, ALoneChainMayHaveAWatchBesideIt) {
  Open();
  loop.Run([](RingsTest& test) -> Task<void> {
    Pipe metadata;
    Scope scope(test.loop);
    scope.Spawn(AwaitOne(*test.client, Lane::kMetadata, &metadata));
    co_await test.client->Await(Lane::kData);  // the loop slept with both rings in use
    metadata.MakeReadable();
    EXPECT_TRUE((co_await scope.Join()).ok());
    for (int i = 0; i < 3; ++i) {
      Chain chain = test.disk->NewChain();
      chain.Fdatasync().Write(HostOffset(0), test.block.span(), Content::kL2).Fdatasync();
      chain.WithoutDrain().OnLane(i % 2 == 0 ? Lane::kData : Lane::kMetadata);
      EXPECT_EQ(co_await chain, absl::OkStatus());
    }
  }(*this));
  EXPECT_EQ(simulated.fdatasyncs, 6U);
  EXPECT_EQ(rings->outstanding(), 0U);
}

TEST_F(RingsTest, WhatFailsBreaksALoneChain) {
  Open();
  loop.Run([](RingsTest& test) -> Task<void> {
    Chain unwritten = test.disk->NewChain();
    unwritten.Write(HostOffset(0), test.block.span(), Content::kL2)
        .Write(HostOffset(uint64_t{1} << 63), test.block.span(), Content::kL2)  // EINVAL
        .Fdatasync()
        .Write(HostOffset(0), test.block.span(), Content::kL2);
    EXPECT_EQ(ErrnoOf(co_await unwritten), EINVAL);
    EXPECT_EQ(unwritten.error(2), ECANCELED);
    EXPECT_EQ(unwritten.error(3), ECANCELED);
    EXPECT_EQ(simulated.fdatasyncs, 0U);

    simulated.fdatasync_error = EIO;
    Chain not_durable = test.WriteFsyncWrite();
    EXPECT_EQ(ErrnoOf(co_await not_durable), EIO);
    EXPECT_EQ(not_durable.error(0), 0);
    EXPECT_EQ(not_durable.error(2), ECANCELED);
    EXPECT_EQ(ErrnoOf(co_await test.disk->Fdatasync()), EIO);
  }(*this));
  EXPECT_EQ(rings->outstanding(), 0U);
}

// The thread is the only one who could serve the others.
TEST_F(RingsTest, AnFsyncAmongOthersIsTheKernels) {
  Open();
  for (const Lane lane : {Lane::kData, Lane::kMetadata}) {
    loop.Run([](RingsTest& test, Lane other) -> Task<void> {
      Pipe pipe;
      Scope scope(test.loop);
      scope.Spawn(AwaitOne(*test.client, other, &pipe));
      EXPECT_EQ(co_await test.disk->Fdatasync(), absl::OkStatus());
      Chain chain = test.WriteFsyncWrite();
      if (other == Lane::kMetadata) chain.WithoutDrain();
      EXPECT_EQ(co_await chain, absl::OkStatus());
      EXPECT_EQ(scope.running(), 1U);
      pipe.MakeReadable();
      EXPECT_TRUE((co_await scope.Join()).ok());
    }(*this, lane));
  }
  EXPECT_EQ(simulated.fdatasyncs, 0U);
}

TEST_F(RingsTest, ALoneChainCostsOneEnterUntilItIsDurable) {
  Open({.sync_inline = false});
  loop.Run([](RingsTest& test) -> Task<void> {
    Chain chain = test.WriteFsyncWrite();
    EXPECT_EQ(co_await chain, absl::OkStatus());
  }(*this));
  EXPECT_EQ(rings->counters().enters, 1U);
  EXPECT_EQ(rings->counters().sqes, 3U);
  EXPECT_EQ(rings->counters().cqes, 3U);
}

// A drained chain on the ring of a request that never ends would never start.
TEST_F(RingsTest, ADrainDoesNotWaitForGuestData) {
  Open();
  loop.Run([](RingsTest& test) -> Task<void> {
    Pipe pipe;
    Scope scope(test.loop);
    scope.Spawn(AwaitOne(*test.client, Lane::kData, &pipe));
    for (int i = 0; i < 20; ++i) {
      Chain chain = test.WriteFsyncWrite();
      EXPECT_EQ(co_await chain, absl::OkStatus());
    }
    EXPECT_EQ(scope.running(), 1U);
    pipe.MakeReadable();
    EXPECT_TRUE((co_await scope.Join()).ok());
  }(*this));
}

// Each of the two sleeps (on both rings; on the metadata ring alone) ends by a completion there.
TEST_F(RingsTest, ACompletionOnEitherRingWakesTheLoop) {
  Open();
  loop.Run([](RingsTest& test) -> Task<void> {
    Pipe data;
    Scope scope(test.loop);
    scope.Spawn(AwaitOne(*test.client, Lane::kData, &data));
    for (int i = 0; i < 20; ++i) co_await test.client->Await(Lane::kMetadata);
    data.MakeReadable();
    EXPECT_TRUE((co_await scope.Join()).ok());

    Pipe metadata;
    scope.Spawn(AwaitOne(*test.client, Lane::kMetadata, &metadata));
    for (int i = 0; i < 20; ++i) co_await test.client->Await(Lane::kData);
    metadata.MakeReadable();
    EXPECT_TRUE((co_await scope.Join()).ok());
    for (int i = 0; i < 20; ++i) co_await test.client->Await(Lane::kMetadata);
  }(*this));
}

// The watch over the metadata ring is itself a long wait on the data ring.
TEST_F(RingsTest, ADrainOnTheDataRingDoesNotWaitForTheWatch) {
  Open();
  loop.Run([](RingsTest& test) -> Task<void> {
    Pipe metadata;
    Scope scope(test.loop);
    scope.Spawn(AwaitOne(*test.client, Lane::kMetadata, &metadata));
    for (int i = 0; i < 5; ++i) {
      co_await test.client->Await(Lane::kData);  // the loop slept with both rings in use
      Chain chain = test.WriteFsyncWrite();
      chain.OnLane(Lane::kData);
      EXPECT_EQ(co_await chain, absl::OkStatus());
      EXPECT_EQ(scope.running(), 1U);
    }
    metadata.MakeReadable();
    EXPECT_TRUE((co_await scope.Join()).ok());
  }(*this));
}

TEST_F(RingsTest, NoMoreAreInFlightThanTheCqHolds) {
  Open({.sq_entries = 16, .cq_entries = 64, .metadata_sq_entries = 16, .metadata_cq_entries = 64});
  for (const Lane lane : {Lane::kData, Lane::kMetadata}) {
    loop.Run([](RingsTest& test, Lane lane) -> Task<void> {
      Pipe pipe;
      Scope scope(test.loop);
      for (int i = 0; i < 5000; ++i) {
        scope.Spawn(AwaitOne(*test.client, lane, i < 30 ? &pipe : nullptr));
      }
      EXPECT_EQ(test.rings->outstanding(), 5000U);
      for (int i = 0; i < 10; ++i) co_await test.loop.Yield();
      pipe.MakeReadable();
      EXPECT_TRUE((co_await scope.Join()).ok());
    }(*this, lane));
    EXPECT_LE(client->most_in_flight, 64U);
    EXPECT_GT(client->most_in_flight, 32U);
    EXPECT_EQ(rings->outstanding(), 0U);
  }
  EXPECT_EQ(rings->counters().sqes, rings->counters().cqes);
}

// Members 1.. of the chain succeed unless the failure of member 0 cancels them, which it does only
// in one and the same submission.
Task<void> FailingChainBehind(Loop& loop, Disk& disk, FakeClient& client, Lane lane, int singles,
                              const AlignedBuffer& block) {
  Scope scope(loop);
  for (int i = 0; i < singles; ++i) scope.Spawn(AwaitOne(client, lane));
  Chain chain = disk.NewChain();
  chain.Write(HostOffset(uint64_t{1} << 63), block.span(), Content::kL2);  // EINVAL
  while (chain.size() < 6) chain.Fdatasync();
  chain.OnLane(lane);
  EXPECT_EQ(ErrnoOf(co_await chain), EINVAL);
  for (size_t i = 1; i < chain.size(); ++i) EXPECT_EQ(chain.error(i), ECANCELED) << i;
  EXPECT_TRUE((co_await scope.Join()).ok());
}

TEST_F(RingsTest, AChainIsSubmittedWholeHoweverFullTheSqIs) {
  Open({.sq_entries = 8, .metadata_sq_entries = 8, .sync_inline = false});
  EXPECT_EQ(disk->max_chain(), 8U);
  for (const Lane lane : {Lane::kData, Lane::kMetadata}) {
    for (int singles = 0; singles <= 17; ++singles) {
      SCOPED_TRACE(singles);
      loop.Run(FailingChainBehind(loop, *disk, *client, lane, singles, block));
    }
  }
}

struct CutCase {
  bool register_files;
  bool sync_inline;
};
class CutChainTest : public RingsTest, public testing::WithParamInterface<CutCase> {};

INSTANTIATE_TEST_SUITE_P(Options, CutChainTest,
                         testing::Values(CutCase{false, false}, CutCase{true, false},
                                         CutCase{false, true}, CutCase{true, true}));

TEST_P(CutChainTest, TheRestOfAChainThatTheKernelCutFails) {
  Open({.register_files = GetParam().register_files, .sync_inline = GetParam().sync_inline});
  loop.Run([](RingsTest& test) -> Task<void> {
    Chain chain = test.disk->NewChain();
    chain.Write(HostOffset(uint64_t{1} << 63), test.block.span(), Content::kL2);  // EINVAL
    while (chain.size() < 4) chain.Write(HostOffset(0), test.block.span(), Content::kL2);
    chain.Fdatasync();
    simulated.consumes_at_most = 2;
    EXPECT_FALSE((co_await chain).ok());
    EXPECT_EQ(chain.error(1), ECANCELED);
    EXPECT_EQ(chain.error(2), EBADF);
    EXPECT_EQ(chain.error(3), ECANCELED);
    EXPECT_EQ(chain.error(4), ECANCELED);
    EXPECT_EQ(test.rings->counters().enters, 2U);
    EXPECT_EQ(simulated.fdatasyncs, 0U);

    Chain next = test.WriteFsyncWrite();
    EXPECT_EQ(co_await next, absl::OkStatus());
  }(*this));
}

TEST_F(RingsTest, SaysWhyThereIsNoIoUring) {
  simulated.setup_error = ENOSYS;
  EXPECT_THAT(std::string(Rings::Create(loop).status().message()),
              HasSubstr("this kernel has no io_uring"));
  simulated.setup_error = EPERM;
  EXPECT_THAT(std::string(Rings::Create(loop).status().message()),
              HasSubstr("this process may not use io_uring"));
  EXPECT_EQ(ErrnoOf(Rings::Create(loop).status()), EPERM);
  simulated.setup_error = EINVAL;
  EXPECT_EQ(ErrnoOf(Rings::Create(loop).status()), EINVAL);
}

TEST_F(RingsTest, AreSmallerWhereMemoryIsShort) {
  simulated.most_entries = 20;
  Open();
  EXPECT_EQ(disk->max_chain(), 16U);
  EXPECT_THAT(rings->notices(), SizeIs(2)) << "one a ring";
  loop.Run(FailingChainBehind(loop, *disk, *client, Lane::kMetadata, 17, block));
  simulated.most_entries = 15;
  EXPECT_EQ(ErrnoOf(Rings::Create(loop).status()), ENOMEM);
}

// Others give it back a moment after they have ended.
TEST_F(RingsTest, WaitForMemory) {
  simulated.most_entries = 15;
  simulated.most_entries_later = 16;
  Open();
  EXPECT_EQ(disk->max_chain(), 16U);
}

constexpr unsigned kSince518 = IORING_SETUP_SUBMIT_ALL;
constexpr unsigned kSince519 = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
constexpr unsigned kSince60 = IORING_SETUP_SINGLE_ISSUER;
constexpr unsigned kSince61 = IORING_SETUP_DEFER_TASKRUN;

struct OlderKernel {
  unsigned unknown_flags;
  size_t notices;
};

class OlderKernelTest : public RingsTest, public testing::WithParamInterface<OlderKernel> {};

TEST_P(OlderKernelTest, FallsBackFlagByFlagAndSaysSo) {
  simulated.unknown_setup_flags = GetParam().unknown_flags;
  Open({.sq_entries = 8, .metadata_sq_entries = 8, .sync_inline = false});
  EXPECT_THAT(rings->notices(), SizeIs(GetParam().notices));
  loop.Run(FailingChainBehind(loop, *disk, *client, Lane::kMetadata, 17, block));
  loop.Run(FailingChainBehind(loop, *disk, *client, Lane::kData, 17, block));
}

INSTANTIATE_TEST_SUITE_P(Kernels, OlderKernelTest,
                         testing::Values(OlderKernel{0, 0}, OlderKernel{kSince61, 1},
                                         OlderKernel{kSince61 | kSince60, 2},
                                         OlderKernel{kSince61 | kSince60 | kSince519, 3},
                                         OlderKernel{kSince61 | kSince60 | kSince519 | kSince518,
                                                     4}));

}  // namespace
}  // namespace ringcow
