#include "qcow2/format/units.h"

#include <gtest/gtest.h>

namespace ringcow {
namespace {

TEST(UnitsTest, PowersOfTwo) {
  EXPECT_FALSE(IsPowerOfTwo(0));
  EXPECT_TRUE(IsPowerOfTwo(1));
  EXPECT_FALSE(IsPowerOfTwo(3));
  EXPECT_TRUE(IsPowerOfTwo(uint64_t{1} << 63));
  EXPECT_FALSE(IsPowerOfTwo(~uint64_t{0}));
}

TEST(UnitsTest, Alignment) {
  EXPECT_TRUE(IsAligned(0, 512));
  EXPECT_TRUE(IsAligned(1024, 512));
  EXPECT_FALSE(IsAligned(1023, 512));
  EXPECT_EQ(AlignDown(1023, 512), 512u);
  EXPECT_EQ(AlignUp(1023, 512), 1024u);
  EXPECT_EQ(AlignUp(1024, 512), 1024u);
  EXPECT_EQ(AlignUp(GuestOffset(513), 512), GuestOffset(1024));
  EXPECT_EQ(AlignDown(GuestOffset(~uint64_t{0}), 512), GuestOffset(~uint64_t{511}));
}

TEST(UnitsTest, DivideRoundUpDoesNotOverflow) {
  EXPECT_EQ(DivideRoundUp(0, 512), 0u);
  EXPECT_EQ(DivideRoundUp(1, 512), 1u);
  EXPECT_EQ(DivideRoundUp(512, 512), 1u);
  EXPECT_EQ(DivideRoundUp(~uint64_t{0}, 512), uint64_t{1} << 55);
}

}  // namespace
}  // namespace ringcow
