// Requests that take long, while what they use is changed under them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/loop.h"
#include "engine/scope.h"
#include "engine/status_macros.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"

namespace ringcow {
namespace {

constexpr uint64_t kCluster = 4096;

std::vector<std::byte> Filled(uint8_t value) {
  return std::vector<std::byte>(kCluster, std::byte{value});
}

// Discards the first cluster and fills others, one after the other, each behind a flush: one of
// them gets the host cluster of the first.
Task<absl::Status> DiscardAndReuse(Image& image, std::span<const std::byte> foreign) {
  CO_RETURN_IF_ERROR(co_await image.Discard(GuestOffset(0), kCluster));
  for (uint64_t i = 1; i < 6; ++i) {
    CO_RETURN_IF_ERROR(co_await image.Flush());
    CO_RETURN_IF_ERROR(co_await image.Write(GuestOffset(i * kCluster), foreign));
  }
  co_return absl::OkStatus();
}

// A disk that answers in any order, and some requests much later than others.
class SlowRequestTest : public testing::TestWithParam<uint64_t> {
 protected:
  // Memory of any alignment, because a write that bounces keeps a punch out until it ends.
  SlowRequestTest()
      : disk_(loop_,
              {.seed = GetParam(), .memory_alignment = 1, .stragglers = 8, .record = false}) {
    EXPECT_EQ(Create(disk_, {.virtual_size = 64 * kCluster, .cluster_size = kCluster}),
              absl::OkStatus());
    absl::StatusOr<std::unique_ptr<Image>> image = Open(disk_);
    EXPECT_TRUE(image.ok()) << image.status();
    image_ = *std::move(image);
    EXPECT_EQ(loop_.Run(image_->Write(GuestOffset(0), mine_)), absl::OkStatus());
  }

  Loop loop_;
  SimDisk disk_;
  std::unique_ptr<Image> image_;
  const std::vector<std::byte> mine_ = Filled(1);
  const std::vector<std::byte> foreign_ = Filled(2);
};

INSTANTIATE_TEST_SUITE_P(Seeds, SlowRequestTest, testing::Range<uint64_t>(1, 401),
                         testing::PrintToStringParamName());

TEST_P(SlowRequestTest, AReadSeesNobodyElsesBytes) {
  std::vector<std::byte> found = Filled(9);
  Scope scope(loop_);
  scope.Spawn(image_->Read(GuestOffset(0), found));
  scope.Spawn(DiscardAndReuse(*image_, foreign_));
  ASSERT_EQ(loop_.Run(scope.Join()), absl::OkStatus());
  EXPECT_TRUE(found == mine_ || found == Filled(0));
}

TEST_P(SlowRequestTest, AWriteChangesNobodyElsesBytes) {
  const std::vector<std::byte> late = Filled(3);
  Scope scope(loop_);
  scope.Spawn(image_->Write(GuestOffset(0), late));
  scope.Spawn(DiscardAndReuse(*image_, foreign_));
  ASSERT_EQ(loop_.Run(scope.Join()), absl::OkStatus());
  std::vector<std::byte> found = Filled(9);
  for (uint64_t i = 1; i < 6; ++i) {
    ASSERT_EQ(loop_.Run(image_->Read(GuestOffset(i * kCluster), found)), absl::OkStatus());
    EXPECT_EQ(found, foreign_) << "cluster " << i;
  }
  EXPECT_EQ(loop_.Run(image_->Close()), absl::OkStatus());
  EXPECT_EQ(Findings(disk_), "");
}

// The second part of a cluster is written with the cluster behind it, which is zero in its place,
// while others write the first part of it.
TEST_P(SlowRequestTest, AWriteOfNeighboursTakesNothingElseAlong) {
  std::vector<std::byte> both(2 * kCluster, std::byte{1});
  ASSERT_EQ(loop_.Run(image_->Write(GuestOffset(0), both)), absl::OkStatus());
  ASSERT_EQ(loop_.Run(image_->WriteZeroes(GuestOffset(kCluster), kCluster, ZeroManner::kKeepSpace)),
            absl::OkStatus());
  constexpr uint64_t kHalf = kCluster / 2;
  const std::vector<std::byte> late = Filled(3);
  Scope scope(loop_);
  scope.Spawn(image_->Write(GuestOffset(kHalf), std::span(late)));
  scope.Spawn(image_->Write(GuestOffset(0), std::span(foreign_).first(kHalf)));
  ASSERT_EQ(loop_.Run(scope.Join()), absl::OkStatus());

  std::vector<std::byte> expected(2 * kCluster, std::byte{0});
  std::copy_n(foreign_.begin(), kHalf, expected.begin());
  std::copy(late.begin(), late.end(), expected.begin() + kHalf);
  ASSERT_EQ(loop_.Run(image_->Read(GuestOffset(0), both)), absl::OkStatus());
  EXPECT_EQ(both, expected);
  EXPECT_EQ(loop_.Run(image_->Close()), absl::OkStatus());
  EXPECT_EQ(Findings(disk_), "");
}

}  // namespace
}  // namespace ringcow
