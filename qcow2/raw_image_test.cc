#include "qcow2/raw_image.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/loop.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr uint64_t kBytes = uint64_t{1} << 20;
constexpr uint64_t kHalf = kBytes / 2;

// Stores its first half, until that is punched; counts who asks.
class HalfDisk final : public Disk {
 public:
  explicit HalfDisk(Loop& loop) : Disk(loop, {.name = "half", .size = kBytes}) {}

  DiskExtent Find(HostOffset offset, uint64_t length) const override {
    ++asked_;
    const uint64_t stored = is_punched_ ? 0 : kHalf;
    if (offset.value() >= stored) return {.bytes = length, .hole = true};
    return {.bytes = std::min(length, stored - offset.value())};
  }

  int asked() const { return asked_; }

 private:
  void Start(Request& request) override {
    is_punched_ = is_punched_ || request.op == Op::kPunch;
    Finish(request, static_cast<int64_t>(request.length));
  }
  void StartChain(Chain& /*chain*/) override {}

  bool is_punched_ = false;
  mutable int asked_ = 0;
};

class RawImageTest : public testing::Test {
 protected:
  bool AreKnownZero(uint64_t offset, uint64_t length) {
    const absl::StatusOr<bool> are_zero =
        loop_.Run(image_.AreKnownZero(GuestOffset(offset), length));
    EXPECT_TRUE(are_zero.ok()) << are_zero.status();
    return are_zero.value_or(false);
  }
  GuestExtent Find(uint64_t offset, uint64_t length) {
    const absl::StatusOr<GuestExtent> found = loop_.Run(image_.Find(GuestOffset(offset), length));
    EXPECT_TRUE(found.ok()) << found.status();
    return found.value_or(GuestExtent());
  }

  Loop loop_;
  HalfDisk disk_{loop_};
  RawImage image_{disk_, /*read_only=*/false};
};

TEST_F(RawImageTest, AsksOnceAboutWhatIsStored) {
  for (uint64_t at = 0; at < kHalf; at += 4096) {
    EXPECT_FALSE(AreKnownZero(at, 4096));
    EXPECT_EQ(Find(at, 512).bytes, 512U);
  }
  EXPECT_EQ(disk_.asked(), 1);
  const GuestExtent rest = Find(kHalf - 512, 4096);
  EXPECT_EQ(rest.bytes, 512U);
  EXPECT_FALSE(rest.zero);
  EXPECT_EQ(disk_.asked(), 1);
}

TEST_F(RawImageTest, AsksAboutWhatItDoesNotKnow) {
  EXPECT_FALSE(AreKnownZero(4096, 4096));
  EXPECT_FALSE(AreKnownZero(0, 4096)) << "in front of it";
  EXPECT_EQ(disk_.asked(), 2);
  EXPECT_TRUE(AreKnownZero(kHalf, 4096));
  EXPECT_TRUE(AreKnownZero(kHalf, 4096)) << "holes are not remembered: they can be filled";
  EXPECT_EQ(disk_.asked(), 4);
}

TEST_F(RawImageTest, AsksAgainWhenItHasChanged) {
  EXPECT_FALSE(AreKnownZero(0, 4096));
  ASSERT_EQ(loop_.Run(image_.Discard(GuestOffset(0), kHalf)), absl::OkStatus());
  EXPECT_TRUE(AreKnownZero(0, 4096));
}

}  // namespace
}  // namespace ringcow
