#include "qcow2/format/big_endian.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace ringcow {
namespace {

constexpr std::array<std::byte, 17> kBytes = {
    std::byte{0xff}, std::byte{0x01}, std::byte{0x02}, std::byte{0x03}, std::byte{0x04},
    std::byte{0x05}, std::byte{0x06}, std::byte{0x07}, std::byte{0x08}, std::byte{0x11},
    std::byte{0x12}, std::byte{0x13}, std::byte{0x14}, std::byte{0x15}, std::byte{0x16},
    std::byte{0x17}, std::byte{0x18}};

TEST(BigEndianTest, LoadsTheFirstByteAsTheMostSignificantAtAnyAlignment) {
  EXPECT_EQ(LoadBe<uint8_t>(kBytes.data() + 1), 0x01);
  EXPECT_EQ(LoadBe<uint16_t>(kBytes.data() + 1), 0x0102);
  EXPECT_EQ(LoadBe<uint32_t>(kBytes.data() + 1), 0x01020304u);
  EXPECT_EQ(LoadBe<uint64_t>(kBytes.data() + 1), 0x0102030405060708u);
}

TEST(BigEndianTest, StoreIsTheInverseOfLoadAndTouchesNothingElse) {
  std::array<std::byte, 10> bytes = {};
  StoreBe<uint64_t>(bytes.data() + 1, 0x0102030405060708);
  EXPECT_EQ(bytes[0], std::byte{0});
  EXPECT_EQ(bytes[1], std::byte{1});
  EXPECT_EQ(bytes[8], std::byte{8});
  EXPECT_EQ(bytes[9], std::byte{0});
}

TEST(BigEndianTest, TableEntries) {
  std::vector<std::byte> table(kBytes.begin() + 1, kBytes.end());
  EXPECT_EQ(LoadBe64At(table, 0), 0x0102030405060708u);
  EXPECT_EQ(LoadBe64At(table, 1), 0x1112131415161718u);
  StoreBe64At(table, 1, 0xa1a2a3a4a5a6a7a8);
  EXPECT_EQ(LoadBe64At(table, 0), 0x0102030405060708u);
  EXPECT_EQ(LoadBe64At(table, 1), 0xa1a2a3a4a5a6a7a8u);
}

TEST(BigEndianDeathTest, AnEntryOutsideTheTableStopsTheProcess) {
  std::array<std::byte, 17> table = {};
  EXPECT_DEATH(LoadBe64At(table, 2), "table index out of range");
  EXPECT_DEATH(StoreBe64At(table, 2, 0), "table index out of range");
}

TEST(BigEndianTest, Fields) {
  struct OnDisk {
    Be16 a;
    Be32 b;
    Be64 c;
  } on_disk = {.a = Be16(0x0102), .b = Be32(0x01020304), .c = Be64(0x0102030405060708)};
  static_assert(sizeof(on_disk) == 14);
  EXPECT_EQ(on_disk.a.value(), 0x0102);
  EXPECT_EQ(on_disk.b.value(), 0x01020304u);
  EXPECT_EQ(on_disk.c.value(), 0x0102030405060708u);
  EXPECT_EQ(reinterpret_cast<const std::byte*>(&on_disk)[5], std::byte{4});
}

}  // namespace
}  // namespace ringcow
