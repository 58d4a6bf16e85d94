#include "engine/worker_pool.h"

#include <fcntl.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "engine/aligned_buffer.h"
#include "engine/rings.h"
#include "engine/scope.h"
#include "engine/testing/sim_disk.h"
#include "engine/uring_disk.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

// A loop with rings, and workers beside it.
struct Host {
  explicit Host(size_t threads)
      : rings(*Rings::Create(loop)), workers(*WorkerPool::Create(*rings, threads)) {}

  Loop loop;
  std::unique_ptr<Rings> rings;
  std::unique_ptr<WorkerPool> workers;
};

Task<std::thread::id> IdOfWorker(WorkerPool& workers) {
  std::thread::id id;
  co_await workers.Run([&id] { id = std::this_thread::get_id(); });
  co_return id;
}

TEST(WorkerPool, CallsOnAnotherThreadAndGoesOnOnTheLoops) {
  Host host(1);
  EXPECT_EQ(host.workers->width(), 1U);
  EXPECT_NE(host.loop.Run(IdOfWorker(*host.workers)), std::this_thread::get_id());
}

TEST(WorkerPool, WithoutThreadsCallsOnTheLoopsThread) {
  Loop loop;
  WorkerPool workers(loop);
  EXPECT_EQ(workers.width(), 1U);
  EXPECT_EQ(loop.Run(IdOfWorker(workers)), std::this_thread::get_id());
}

TEST(WorkerPool, WithoutThreadsOnRings) {
  Host host(0);
  EXPECT_EQ(host.loop.Run(IdOfWorker(*host.workers)), std::this_thread::get_id());
  EXPECT_EQ(host.rings->counters().sqes, 0U);
}

Task<absl::Status> Note(WorkerPool& workers, std::vector<int>& order, int number) {
  order.push_back(number);
  co_await workers.Run([&order, number] { order.push_back(-number); });
  order.push_back(number);
  co_return absl::OkStatus();
}

// Each call goes through the ready queue like everything else that waits, so that others go on.
TEST(WorkerPool, WithoutThreadsCallsInTheNextTurnInOrder) {
  Loop loop;
  WorkerPool workers(loop);
  std::vector<int> order;
  Scope scope(loop);
  scope.Spawn(Note(workers, order, 1));
  scope.Spawn(Note(workers, order, 2));
  EXPECT_EQ(loop.Run(scope.Join()), absl::OkStatus());
  EXPECT_EQ(order, (std::vector{1, 2, -1, 1, -2, 2}));
}

// What was written before a call is seen in it, and what it writes is seen behind it.
Task<absl::Status> CountUp(WorkerPool& workers, uint64_t& number, int calls) {
  for (int i = 0; i < calls; ++i) {
    const uint64_t before = number;
    co_await workers.Run([&number] { ++number; });
    if (number++ != before + 1) co_return absl::InternalError("a call was lost, or made twice");
  }
  co_return absl::OkStatus();
}

TEST(WorkerPool, ManyCallsByManyTasks) {
  constexpr int kTasks = 20;
  constexpr int kCalls = 200;
  Host host(4);
  std::vector<uint64_t> numbers(kTasks);
  Scope scope(host.loop);
  for (uint64_t& number : numbers) scope.Spawn(CountUp(*host.workers, number, kCalls));
  EXPECT_EQ(host.loop.Run(scope.Join()), absl::OkStatus());
  for (const uint64_t number : numbers) EXPECT_EQ(number, 2U * kCalls);
}

// Each call ends only when all are running.
Task<absl::Status> Meet(WorkerPool& workers, std::atomic<size_t>& there, size_t expected) {
  co_await workers.Run([&there, expected] {
    ++there;
    while (there < expected) std::this_thread::yield();
  });
  co_return absl::OkStatus();
}

TEST(WorkerPool, RunsAsManyAtATimeAsItIsWide) {
  Host host(3);
  std::atomic<size_t> there = 0;
  Scope scope(host.loop);
  for (size_t i = 0; i < host.workers->width(); ++i) scope.Spawn(Meet(*host.workers, there, 3));
  EXPECT_EQ(host.loop.Run(scope.Join()), absl::OkStatus());
  EXPECT_EQ(there, 3U);
}

// A function that begins on the loop's own thread, when a call has long been under way, ends it.
Task<absl::Status> Release(Loop& loop, std::atomic<bool>& started, std::atomic<bool>& released) {
  while (!started) co_await loop.Yield();
  released = true;
  co_return absl::OkStatus();
}

Task<absl::Status> WaitForRelease(WorkerPool& workers, std::atomic<bool>& started,
                                  std::atomic<bool>& released) {
  co_await workers.Run([&] {
    started = true;
    while (!released) std::this_thread::yield();
  });
  co_return absl::OkStatus();
}

TEST(WorkerPool, TheLoopGoesOnMeanwhile) {
  Host host(1);
  std::atomic<bool> started = false;
  std::atomic<bool> released = false;
  Scope scope(host.loop);
  scope.Spawn(WaitForRelease(*host.workers, started, released));
  scope.Spawn(Release(host.loop, started, released));
  EXPECT_EQ(host.loop.Run(scope.Join()), absl::OkStatus());
}

Task<absl::Status> WriteInChains(Disk& disk, std::span<const std::byte> bytes, int chains,
                                 std::atomic<bool>& released) {
  for (int i = 0; i < chains; ++i) {
    Chain chain = disk.NewChain();
    chain.Write(HostOffset(0), bytes, Content::kL2)
        .Fdatasync()
        .Write(HostOffset(0), bytes, Content::kL2);
    const absl::Status status = co_await chain;
    if (!status.ok()) co_return status;
  }
  released = true;
  co_return absl::OkStatus();
}

// The read that waits for workers is no request that a drain of metadata waits for: the worker goes
// on only when the drained chains have ended.
TEST(WorkerPool, HoldsBackNoDrainOfMetadata) {
  Host host(1);
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/disk";
  close(open(path.c_str(), O_CREAT | O_RDWR, 0600));
  const std::unique_ptr<UringDisk> disk = *UringDisk::Open(*host.rings, path);
  const AlignedBuffer bytes(4096);
  std::atomic<bool> started = false;
  std::atomic<bool> released = false;
  Scope scope(host.loop);
  scope.Spawn(WaitForRelease(*host.workers, started, released));
  scope.Spawn(WriteInChains(*disk, bytes.span(), 3, released));
  EXPECT_EQ(host.loop.Run(scope.Join()), absl::OkStatus());
  EXPECT_EQ(disk->counters().drains, 3U);
}

Task<absl::Status> ReadAndCompute(Disk& disk, WorkerPool& workers, uint64_t& number) {
  const AlignedBuffer bytes(512);
  for (int i = 0; i < 10; ++i) {
    const absl::Status status = co_await disk.Read(HostOffset(0), bytes.span());
    if (!status.ok()) co_return status;
    co_await workers.Run([&number] { ++number; });
  }
  co_return absl::OkStatus();
}

TEST(WorkerPool, WithoutThreadsBesideASimulatedDisk) {
  Loop loop;
  SimDisk disk(loop, {});
  WorkerPool workers(loop);
  std::vector<uint64_t> numbers(3);
  Scope scope(loop);
  for (uint64_t& number : numbers) scope.Spawn(ReadAndCompute(disk, workers, number));
  EXPECT_EQ(loop.Run(scope.Join()), absl::OkStatus());
  EXPECT_EQ(numbers, (std::vector<uint64_t>{10, 10, 10}));
}

TEST(WorkerPool, EndsWithoutEverHavingBeenUsed) { const Host host(4); }

TEST(WorkerPool, ThisMachineHasAtLeastOneThread) {
  EXPECT_GE(WorkerPool::ThreadsForThisMachine(), 1U);
  EXPECT_LE(WorkerPool::ThreadsForThisMachine(), 16U);
}

}  // namespace
}  // namespace ringcow
