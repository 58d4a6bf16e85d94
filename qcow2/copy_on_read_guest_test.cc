#include "qcow2/copy_on_read_guest.h"

#include <memory>
#include <random>
#include <vector>

#include "engine/scope.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/overlay_rig.h"

namespace ringcow {
namespace {

constexpr uint64_t kBytes = 256 << 10;
constexpr uint64_t kCluster = OverlayRig::kCluster;

// Each byte of the backing file tells where it is.
std::vector<std::byte> Pattern() {
  std::vector<std::byte> bytes(kBytes);
  for (uint64_t i = 0; i < kBytes; ++i) bytes[i] = static_cast<std::byte>(1 + i / 512 % 200);
  return bytes;
}

class CopyOnReadGuestTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(loop_.Run(guest_->Close()), absl::OkStatus()); }

  uint64_t Allocated() {
    uint64_t bytes = 0;
    for (uint64_t at = 0; at < kBytes;) {
      const GuestExtent extent = loop_.Run(guest_->Find(GuestOffset(at), kBytes - at)).value();
      if (extent.allocated) bytes += extent.bytes;
      at += extent.bytes;
    }
    return bytes;
  }

  OverlayRig rig_{Pattern()};
  Loop& loop_ = rig_.loop();
  SimDisk& disk_ = rig_.disk();
  std::unique_ptr<CopyOnReadGuest> guest_ =
      std::make_unique<CopyOnReadGuest>(loop_, rig_.Open(), kCluster, nullptr);
};

TEST_F(CopyOnReadGuestTest, CopiesWholeClustersOnce) {
  std::vector<std::byte> bytes(100);
  ASSERT_EQ(loop_.Run(guest_->Read(GuestOffset(kCluster - 50), bytes)), absl::OkStatus());
  const std::vector<std::byte> pattern = Pattern();
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), pattern.begin() + kCluster - 50));
  EXPECT_EQ(Allocated(), 2 * kCluster);
  const uint64_t changes = disk_.changes();
  ASSERT_EQ(loop_.Run(guest_->Read(GuestOffset(0), bytes)), absl::OkStatus());
  EXPECT_EQ(disk_.changes(), changes);
}

// A write that comes while its clusters are being copied is not lost under older bytes.
TEST_F(CopyOnReadGuestTest, WritesAreNotLost) {
  std::mt19937_64 random(3);
  std::vector<std::byte> expected = Pattern();
  std::vector<std::vector<std::byte>> memory;
  memory.reserve(2000);
  for (int round = 0; round < 100; ++round) {
    Scope scope(loop_);
    const uint64_t cluster = random() % (kBytes / kCluster);
    const GuestOffset offset(cluster * kCluster + random() % 7 * 512);
    const std::vector<std::byte>& written =
        memory.emplace_back(512, static_cast<std::byte>(201 + round % 50));
    std::ranges::copy(written, expected.begin() + static_cast<ptrdiff_t>(offset.value()));
    std::vector<std::byte>& read = memory.emplace_back(kCluster);
    const bool reads_first = round % 2 == 0;
    if (reads_first) scope.Spawn(guest_->Read(GuestOffset(cluster * kCluster), read));
    scope.Spawn(guest_->Write(offset, written));
    if (!reads_first) scope.Spawn(guest_->Read(GuestOffset(cluster * kCluster), read));
    ASSERT_EQ(loop_.Run(scope.Join()), absl::OkStatus());
  }
  std::vector<std::byte> found(kBytes);
  ASSERT_EQ(loop_.Run(guest_->Read(GuestOffset(0), found)), absl::OkStatus());
  EXPECT_TRUE(found == expected);
  EXPECT_EQ(Allocated(), kBytes);
  ASSERT_EQ(loop_.Run(guest_->Read(GuestOffset(0), found)), absl::OkStatus());
  EXPECT_TRUE(found == expected);
}

}  // namespace
}  // namespace ringcow
