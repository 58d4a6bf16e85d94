#include "bench/runner.h"

#include <algorithm>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

// Ends each request a turn or a few after it began, and notes what happened in which order.
class NotingDisk : public GuestDisk {
 public:
  explicit NotingDisk(Loop& loop) : loop_(loop) {}

  uint64_t size() const override { return uint64_t{1} << 30; }
  Task<absl::Status> Read(GuestOffset offset, std::span<std::byte> into) override {
    return Note({GuestOp::Kind::kRead, offset, static_cast<uint32_t>(into.size())});
  }
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) override {
    has_zeroes = has_zeroes || std::any_of(from.begin(), from.end(),
                                           [](auto byte) { return byte == std::byte{}; });
    return Note({GuestOp::Kind::kWrite, offset, static_cast<uint32_t>(from.size())});
  }
  Task<absl::Status> WriteZeroes(GuestOffset, uint64_t, ZeroManner) override {
    co_return absl::UnimplementedError("no zeroes");
  }
  Task<absl::Status> Discard(GuestOffset, uint64_t) override {
    co_return absl::UnimplementedError("no discard");
  }
  Task<absl::StatusOr<GuestExtent>> Find(GuestOffset, uint64_t length) override {
    co_return GuestExtent{.bytes = length};
  }
  Task<absl::StatusOr<bool>> AreKnownZero(GuestOffset, uint64_t) override { co_return false; }
  Task<absl::Status> Resize(uint64_t, Preallocation) override {
    co_return absl::UnimplementedError("no other size");
  }
  Task<absl::Status> Flush() override {
    under_way_at_flush.push_back(under_way);
    return Note({GuestOp::Kind::kFlush, GuestOffset(0), 0});
  }
  Task<absl::Status> Close() override { co_return absl::OkStatus(); }
  const DiskCounters& counters() const override { return counters_; }
  void ResetCounters() override {}

  std::vector<GuestOp> begun;
  std::vector<size_t> under_way_at_flush;
  size_t under_way = 0;
  size_t most_under_way = 0;
  bool has_zeroes = false;
  size_t fails_at = ~size_t{0};

 private:
  Task<absl::Status> Note(GuestOp op) {
    const size_t index = begun.size();
    begun.push_back(op);
    most_under_way = std::max(most_under_way, ++under_way);
    for (size_t turn = 0; turn <= index % 3; ++turn) co_await loop_.Yield();
    --under_way;
    if (index == fails_at) co_return absl::DataLossError("broken");
    co_return absl::OkStatus();
  }

  Loop& loop_;
  DiskCounters counters_;
};

std::vector<GuestOp> Writes(size_t count) {
  Workload workload;
  workload.image_bytes = uint64_t{1} << 30;
  workload.requests = count;
  return MakeOps(workload);
}

std::vector<GuestOp> Without(std::vector<GuestOp> ops, GuestOp::Kind kind) {
  std::erase_if(ops, [&](const GuestOp& op) { return op.kind == kind; });
  return ops;
}

TEST(RunnerTest, MakesEachRequestOnceInOrderAtTheQueueDepth) {
  for (const uint32_t depth : {1, 3, 64}) {
    Loop loop;
    NotingDisk disk(loop);
    const std::vector<GuestOp> ops = Writes(200);
    const auto result = loop.Run(RunOps(loop, disk, ops, {.depth = depth}));
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(disk.begun, ops);
    EXPECT_EQ(disk.most_under_way, depth);
    EXPECT_EQ(disk.under_way, 0U);
    EXPECT_EQ(result->requests, 200U);
    EXPECT_EQ(result->bytes, 200U * 4096);
    EXPECT_EQ(result->latency.count(), 200U);
    EXPECT_EQ(result->flushes, 0U);
    EXPECT_GT(result->elapsed.count(), 0);
    EXPECT_FALSE(disk.has_zeroes);
  }
}

TEST(RunnerTest, FlushesInBetweenWaitForTheQueueToDrain) {
  Loop loop;
  NotingDisk disk(loop);
  const std::vector<GuestOp> ops = Writes(40);
  const auto result = loop.Run(RunOps(loop, disk, ops, {.depth = 8, .flush_every = 16}));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(disk.under_way_at_flush, (std::vector<size_t>{0, 0, 0}));
  EXPECT_EQ(disk.begun[16].kind, GuestOp::Kind::kFlush);
  EXPECT_EQ(disk.begun[33].kind, GuestOp::Kind::kFlush);
  EXPECT_EQ(disk.begun.back().kind, GuestOp::Kind::kFlush);
  EXPECT_EQ(Without(disk.begun, GuestOp::Kind::kFlush), ops);
  EXPECT_EQ(disk.most_under_way, 8U);
  EXPECT_EQ(result->flushes, 3U);
  EXPECT_EQ(result->latency.count(), 40U);
}

TEST(RunnerTest, AFlushForEachWriteHoldsUpNoOther) {
  Loop loop;
  NotingDisk disk(loop);
  const std::vector<GuestOp> ops = Writes(50);
  const auto result = loop.Run(RunOps(loop, disk, ops, {.depth = 4, .flush_every = 1}));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->flushes, 50U);
  EXPECT_EQ(result->requests, 50U);
  EXPECT_EQ(Without(disk.begun, GuestOp::Kind::kFlush), ops);
  EXPECT_GT(*std::max_element(disk.under_way_at_flush.begin(), disk.under_way_at_flush.end()), 1U);
}

TEST(RunnerTest, AFlushAmongTheRequestsIsNoRequest) {
  Loop loop;
  NotingDisk disk(loop);
  std::vector<GuestOp> ops = Writes(10);
  ops.insert(ops.begin() + 5, {GuestOp::Kind::kFlush, GuestOffset(0), 0});
  const auto result = loop.Run(RunOps(loop, disk, ops, {.depth = 2}));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(disk.begun, ops);
  EXPECT_EQ(result->requests, 10U);
  EXPECT_EQ(result->flushes, 1U);
}

TEST(RunnerTest, StopsAtAFailureAndWaitsForTheRest) {
  Loop loop;
  NotingDisk disk(loop);
  disk.fails_at = 7;
  const std::vector<GuestOp> ops = Writes(1000);
  const auto result = loop.Run(RunOps(loop, disk, ops, {.depth = 4}));
  EXPECT_EQ(result.status(), absl::DataLossError("broken"));
  EXPECT_EQ(disk.under_way, 0U);
  EXPECT_LT(disk.begun.size(), 30U);
}

TEST(RunnerTest, BeginsNothingAfterTheTimeLimit) {
  Loop loop;
  NotingDisk disk(loop);
  const std::vector<GuestOp> ops = Writes(1000);
  const auto result =
      loop.Run(RunOps(loop, disk, ops, {.depth = 4, .time_limit = std::chrono::nanoseconds(0)}));
  ASSERT_TRUE(result.ok());
  EXPECT_GE(result->requests, 1U);
  EXPECT_LE(result->requests, 4U);
  EXPECT_EQ(disk.begun.size(), result->requests);
}

}  // namespace
}  // namespace ringcow
