// What RepairImage makes of damaged images is what qemu-img check -r makes of them: the same lines,
// counts and exit code, an image about which qemu-img check then says the same, and the same guest
// bytes. Fails when qemu-img or qemu-io is missing.

#include <string>

#include "absl/strings/str_cat.h"
#include "engine/testing/sanitized.h"
#include "gtest/gtest.h"
#include "qcow2/broken_images.h"
#include "qcow2/check_oracle.h"
#include "qcow2/repair.h"

namespace ringcow {
namespace {

class RepairBrokenTest : public testing::TestWithParam<BrokenImages> {};

INSTANTIATE_TEST_SUITE_P(All, RepairBrokenTest, testing::ValuesIn(AllBrokenImages()),
                         [](const auto& info) { return info.param.name; });

// Corruptions are worse than leaks; where nobody knows, it is worst.
int Gravity(const CheckReport& report) {
  switch (report.exit_code) {
    case 0:
      return 0;
    case 3:
      return 1;
    case 2:
      return 2;
    default:
      return 3;
  }
}

TEST_P(RepairBrokenTest, IsRepairedAsByQemu) {
  const BrokenImages& images = GetParam();
  ImageFile pristine(images.options, "64M", images.commands);
  ImageFile ours("", "64M", {});
  ImageFile theirs("", "64M", {});
  for (const Damage& damage : SomeOf(images.damages)) {
    for (const RepairScope scope : {RepairScope::kLeaks, RepairScope::kAll}) {
      SCOPED_TRACE(damage.name + (scope == RepairScope::kAll ? ", all" : ", leaks"));
      Shell(absl::StrCat("cp '", pristine.path(), "' '", ours.path(), "'"));
      damage.apply(ours);
      const CheckReport broken = CheckFile(ours.path());
      if (damage.repaired_otherwise.empty()) {
        Shell(absl::StrCat("cp '", ours.path(), "' '", theirs.path(), "'"));
        EXPECT_EQ(RepairFile(ours.path(), scope), QemuRepair(theirs.path(), scope));
        EXPECT_EQ(QemuCheck(ours.path()), QemuCheck(theirs.path()));
      } else {
        const CheckReport repaired = RepairFile(ours.path(), scope);
        EXPECT_LE(Gravity(CheckFile(ours.path())), Gravity(broken)) << repaired;
      }
    }
  }
}

}  // namespace
}  // namespace ringcow
