#include "bench/workload.h"

#include <set>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

Workload Scattered(uint64_t places, uint64_t spacing) {
  Workload workload;
  workload.pattern = Workload::Pattern::kScattered;
  workload.spacing = spacing;
  workload.image_bytes = places * spacing;
  workload.requests = places;
  return workload;
}

class ScatteredTest : public testing::TestWithParam<std::pair<uint64_t, uint64_t>> {};

TEST_P(ScatteredTest, VisitsEveryPlaceOnceAndJumpsFar) {
  const auto [places, spacing] = GetParam();
  const Workload workload = Scattered(places, spacing);

  std::set<uint64_t> visited;
  for (const GuestOp& op : MakeOps(workload)) {
    EXPECT_EQ(op.offset.value() % spacing, 0U);
    EXPECT_LT(op.offset.value(), workload.image_bytes);
    visited.insert(op.offset.value());
  }
  EXPECT_EQ(visited.size(), places);

  EXPECT_LE(Step(workload), 2147483647U) << "qemu-img takes no larger one";
  if (places >= 8) {
    EXPECT_GE(Step(workload), 3 * spacing) << "not sequential";
    EXPECT_NE(Step(workload), workload.image_bytes - spacing) << "not sequential backwards";
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, ScatteredTest,
                         testing::Values(std::pair(1, 65536), std::pair(2, 65536),
                                         std::pair(64, 65536), std::pair(8192, 65536),
                                         std::pair(9000, 65536),  // no power of two
                                         std::pair(4096, 32 << 20), std::pair(1 << 20, 65536)));

TEST(WorkloadTest, ScatteredGoesOnWithASecondRound) {
  Workload workload = Scattered(64, 65536);
  workload.requests = 128;
  const std::vector<GuestOp> ops = MakeOps(workload);
  ASSERT_EQ(ops.size(), 128U);
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(ops[i], ops[i + 64]);
}

TEST(WorkloadTest, SequentialTouchesEachByteOnceAndReadsWhenTold) {
  Workload workload;
  workload.request_bytes = 4096;
  workload.image_bytes = 1 << 20;
  workload.requests = 256;
  workload.reads = true;
  uint64_t expected = 0;
  for (const GuestOp& op : MakeOps(workload)) {
    EXPECT_EQ(op, (GuestOp{GuestOp::Kind::kRead, GuestOffset(expected), 4096}));
    expected += 4096;
  }
  EXPECT_EQ(expected, workload.image_bytes);
}

TEST(WorkloadTest, InstallMixRepeatsStaysInsideAndIsAMix) {
  Workload workload;
  workload.pattern = Workload::Pattern::kInstallMix;
  workload.image_bytes = uint64_t{512} << 20;
  workload.requests = 2048;
  const std::vector<GuestOp> ops = MakeOps(workload);
  EXPECT_EQ(ops, MakeOps(workload));

  uint64_t writes = 0, flushes = 0;
  std::set<uint32_t> lengths;
  for (const GuestOp& op : ops) {
    if (op.kind == GuestOp::Kind::kFlush) {
      ++flushes;
      continue;
    }
    ++writes;
    lengths.insert(op.length);
    EXPECT_EQ(op.kind, GuestOp::Kind::kWrite);
    EXPECT_EQ(op.offset.value() % 4096, 0U);
    EXPECT_EQ(op.length % 4096, 0U);
    EXPECT_LE(op.offset.value() + op.length, workload.image_bytes);
  }
  EXPECT_EQ(writes, 2048U);
  EXPECT_GT(flushes, writes / 64);
  EXPECT_LT(flushes, writes / 16);
  EXPECT_EQ(*lengths.begin(), 4096U);
  EXPECT_EQ(*lengths.rbegin(), 1U << 20);
}

TEST(WorkloadTest, InstallMixEndsWhenTheImageIsFull) {
  Workload workload;
  workload.pattern = Workload::Pattern::kInstallMix;
  workload.image_bytes = uint64_t{64} << 20;
  workload.requests = 100000;
  const std::vector<GuestOp> ops = MakeOps(workload);
  EXPECT_GT(ops.size(), 100U);
  EXPECT_LT(ops.size(), 10000U);
}

TEST(WorkloadTest, MoreRequestsGrowAFreshImageOnly) {
  Workload fresh = Scattered(8192, 65536);
  EXPECT_EQ(WithRequests(fresh, 100).image_bytes, fresh.image_bytes);
  EXPECT_EQ(WithRequests(fresh, 16000).places(), 16384U);
  EXPECT_EQ(WithRequests(fresh, 16000).requests, 16000U);

  Workload populated = fresh;
  populated.start = Workload::Start::kPopulated;
  EXPECT_EQ(WithRequests(populated, 16000).image_bytes, fresh.image_bytes);
}

}  // namespace
}  // namespace ringcow
