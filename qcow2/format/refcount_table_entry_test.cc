#include "qcow2/format/refcount_table_entry.h"

#include <gtest/gtest.h>

#include <string>

namespace ringcow {
namespace {

std::string Problem(uint64_t raw) {
  const Geometry geometry = *Geometry::Create({});
  const RefcountTableEntry entry = RefcountTableEntry::FromRaw(raw);
  const absl::Status status = entry.Validate(geometry, 7);
  EXPECT_EQ(status.ok(), entry.IsValid(geometry));
  return std::string(status.message());
}

TEST(RefcountTableEntryTest, BuildsAndReadsTheSpecifiedBits) {
  EXPECT_EQ(RefcountTableEntry::Unallocated().raw(), 0u);
  EXPECT_EQ(RefcountTableEntry::Block(HostOffset(0x20000)).raw(), 0x20000u);
  EXPECT_EQ(RefcountTableEntry::FromRaw(0x20000).block(), HostOffset(0x20000));
  EXPECT_EQ(RefcountTableEntry::FromRaw(0x201ff).block(), HostOffset(0x20000));
  EXPECT_EQ(RefcountTableEntry::FromRaw(0).block(), std::nullopt);
}

TEST(RefcountTableEntryTest, Validity) {
  EXPECT_EQ(Problem(0), "");
  EXPECT_EQ(Problem(0x20000), "");
  EXPECT_EQ(Problem(0x7fffffffffff0000), "");
  EXPECT_EQ(Problem(0x20200), "Refblock offset 0x20200 unaligned (reftable index: 0x7)");
  EXPECT_EQ(Problem(0x8000000000000000),
            "Refblock offset 0x8000000000000000 is beyond any file's end (reftable index: 0x7)");
  for (int bit = 0; bit < 9; ++bit) {
    EXPECT_NE(Problem(0x20000 | uint64_t{1} << bit).find("has reserved bits set"),
              std::string::npos);
  }
}

TEST(RefcountTableEntryDeathTest, RefusesToBuildWhatCannotBeStored) {
  EXPECT_DEATH(RefcountTableEntry::Block(HostOffset(0)), "not a refcount block offset");
  EXPECT_DEATH(RefcountTableEntry::Block(HostOffset(0x20001)), "not a refcount block offset");
}

}  // namespace
}  // namespace ringcow
