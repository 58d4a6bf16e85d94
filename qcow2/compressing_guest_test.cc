#include "qcow2/compressing_guest.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/errno_status.h"
#include "engine/loop.h"
#include "engine/scope.h"
#include "engine/task.h"
#include "gtest/gtest.h"
#include "qcow2/overlay_rig.h"

namespace ringcow {
namespace {

constexpr uint64_t kCluster = OverlayRig::kCluster;
// The last cluster is in it by half.
constexpr uint64_t kBytes = (64 << 10) - kCluster / 2;

// A cluster can be compressed once; what is around a part of it is the backing file's.
class CompressingGuestTest : public testing::Test {
 protected:
  static std::vector<std::byte> Pattern() {
    std::vector<std::byte> bytes(kBytes);
    for (uint64_t i = 0; i < kBytes; ++i) bytes[i] = static_cast<std::byte>(1 + i / 256 % 200);
    return bytes;
  }
  void TearDown() override { EXPECT_EQ(loop_.Run(guest_->Close()), absl::OkStatus()); }

  std::span<std::byte> Expected(uint64_t offset, uint64_t length) {
    return std::span(expected_).subspan(offset, length);
  }
  void Write(uint64_t offset, uint64_t length) {
    const std::vector<std::byte> bytes(length, std::byte{255});
    ASSERT_EQ(loop_.Run(guest_->Write(GuestOffset(offset), bytes)), absl::OkStatus());
    std::ranges::copy(bytes, Expected(offset, length).begin());
  }
  void WriteZeroes(uint64_t offset, uint64_t length) {
    ASSERT_EQ(loop_.Run(guest_->WriteZeroes(GuestOffset(offset), length, ZeroManner::kKeepSpace)),
              absl::OkStatus());
    std::ranges::fill(Expected(offset, length), std::byte{0});
  }
  void ExpectContents() {
    std::vector<std::byte> found(kBytes);
    ASSERT_EQ(loop_.Run(guest_->Read(GuestOffset(0), found)), absl::OkStatus());
    EXPECT_TRUE(found == expected_);
  }
  GuestExtent Find(uint64_t offset) {
    return loop_.Run(guest_->Find(GuestOffset(offset), kBytes - offset)).value();
  }

  OverlayRig rig_{Pattern()};
  Loop& loop_ = rig_.loop();
  std::unique_ptr<CompressingGuest> guest_ =
      std::make_unique<CompressingGuest>(loop_, rig_.Open(), kCluster);
  std::vector<std::byte> expected_ = rig_.pattern();
};

TEST_F(CompressingGuestTest, PartsOfClustersKeepTheRest) {
  Write(100, 50);                           // inside of one
  Write(2 * kCluster + 512, 2 * kCluster);  // the end of one, a whole one, the begin of another
  WriteZeroes(6 * kCluster + 1000, 1000);
  Write(kBytes - 600, 600);  // the end of the last
  ExpectContents();
  for (const uint64_t cluster : {0, 2, 3, 4, 6, 15}) {
    EXPECT_TRUE(Find(cluster * kCluster).compressed) << cluster;
  }
  EXPECT_FALSE(Find(kCluster).allocated);
}

TEST_F(CompressingGuestTest, WholeClustersOfZeroesTakeNoSpace) {
  WriteZeroes(kCluster, 2 * kCluster);
  WriteZeroes(14 * kCluster, kBytes - 14 * kCluster);
  ExpectContents();
  for (const uint64_t cluster : {1, 2, 14, 15}) {
    EXPECT_TRUE(Find(cluster * kCluster).zero) << cluster;
    EXPECT_FALSE(Find(cluster * kCluster).compressed) << cluster;
  }
}

// The second is told so, and does not take the first one's bytes away.
TEST_F(CompressingGuestTest, AClusterIsWrittenOnce) {
  const std::vector<std::byte> bytes(512, std::byte{255});
  absl::Status first;
  absl::Status second;
  const auto write = [&](uint64_t offset, absl::Status& status) -> Task<absl::Status> {
    status = co_await guest_->Write(GuestOffset(offset), bytes);
    co_return absl::OkStatus();
  };
  Scope scope(loop_);
  scope.Spawn(write(0, first));
  scope.Spawn(write(1024, second));
  ASSERT_EQ(loop_.Run(scope.Join()), absl::OkStatus());
  EXPECT_EQ(first, absl::OkStatus());
  EXPECT_EQ(ErrnoOf(second), EIO);
  std::ranges::copy(bytes, Expected(0, 512).begin());
  ExpectContents();
}

}  // namespace
}  // namespace ringcow
