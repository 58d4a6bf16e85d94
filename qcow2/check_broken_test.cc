// What CheckImage says about damaged images is what qemu-img check says: the same lines, counts and
// exit code. Fails when qemu-img or qemu-io is missing.

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "qcow2/broken_images.h"
#include "qcow2/check_oracle.h"

namespace ringcow {
namespace {

class CheckBrokenTest : public testing::TestWithParam<BrokenImages> {};

INSTANTIATE_TEST_SUITE_P(All, CheckBrokenTest, testing::ValuesIn(AllBrokenImages()),
                         [](const auto& info) { return info.param.name; });

// Prints both reports when they differ.
TEST_P(CheckBrokenTest, IsReportedAsByQemu) {
  for (const Damage& damage : GetParam().damages) {
    SCOPED_TRACE(damage.name);
    ImageFile file(GetParam().options, "64M", GetParam().commands);
    ASSERT_EQ(CheckFile(file.path()).exit_code, 0);
    damage.apply(file);
    const CheckReport report = CheckFile(file.path());
    EXPECT_EQ(report, QemuCheck(file.path()));
  }
}

// Any one bit of the metadata, except in the header.
TEST(CheckDamagedTest, RandomBits) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  const ImageFile original(
      "cluster_size=4096,refcount_bits=8", "16M",
      {"write 0 256k", "write -z 128k 64k", "write 8M 64k", "$ qemu-img snapshot -c one FILE",
       "write 64k 64k", "write -c 1M 64k", "$ qemu-img snapshot -c two FILE", "discard 0 8k"});
  ASSERT_EQ(CheckFile(original.path()), QemuCheck(original.path()));
  ImageFile copy("cluster_size=4096", "16M", {});
  int compared = 0;
  for (int i = 0; i < 80; ++i) {
    Shell(absl::StrCat("cp '", original.path(), "' '", copy.path(), "'"));
    const std::vector<uint64_t> tables = {copy.l1(),
                                          copy.l2(),
                                          copy.refcount_table(),
                                          copy.refcount_block(),
                                          copy.snapshots(),
                                          copy.Get64(copy.snapshots())};
    const uint64_t table = tables[random() % tables.size()];
    // Most of a table is empty; its beginning is where things are.
    const uint64_t at = table + random() % 24 * 8;
    const uint64_t bit = random() % 64;
    SCOPED_TRACE(absl::StrFormat("bit %d at %#x", bit, at));
    copy.Put64(at, copy.Get64(at) ^ (uint64_t{1} << bit));
    CheckReport ours = CheckFile(copy.path());
    CheckReport theirs = QemuCheck(copy.path());
    // An L2 table where there cannot be one, or where there is data: that is noise, of which QEMU
    // reports some lines once that are true of several L1 tables.
    constexpr size_t kNoise = 200;
    if (ours.lines.size() > kNoise || std::ranges::any_of(ours.lines, [](const std::string& line) {
          return absl::StrContains(line, "Table is not cluster aligned");
        })) {
      EXPECT_EQ(ours.exit_code, theirs.exit_code);
      continue;
    }
    ++compared;
    EXPECT_EQ(ours, theirs);
  }
  EXPECT_GT(compared, 40);
}

}  // namespace
}  // namespace ringcow
