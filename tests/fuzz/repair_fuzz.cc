#include <utility>
#include <vector>

#include "engine/loop.h"
#include "engine/testing/disk_image.h"
#include "engine/testing/sim_disk.h"
#include "qcow2/check.h"
#include "qcow2/image.h"
#include "qcow2/repair.h"
#include "tests/fuzz/probes.h"
#include "tests/fuzz/targets.h"

namespace ringcow {
namespace {

std::vector<Seen> Look(Loop& loop, Disk& disk) {
  OtherFiles others(loop);
  auto image = loop.Run(Image::Open(disk, others.Options(/*read_only=*/true)));
  return image.ok() ? ReadAllOver(loop, **image) : std::vector<Seen>();
}

// Repairs one way: what a guest could read reads as before, and when nothing is said to be left,
// nothing is. (An entry that is wrong in two ways may be counted as left for the one, though it
// went for the other.)
void Repair(const DiskImage& content, RepairScope scope) {
  Loop loop;
  SimDisk disk(loop, {.record = false}, content);
  const std::vector<Seen> before = Look(loop, disk);
  const auto repaired = loop.Run(RepairImage(disk, scope, {}));
  const auto checked = loop.Run(CheckImage(disk, {}));
  FUZZ_EXPECT(!repaired.ok() || checked.ok());
  const std::vector<Seen> after = Look(loop, disk);
  FUZZ_EXPECT(before.empty() || after.size() == before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    FUZZ_EXPECT(!before[i].bytes.has_value() || before[i].bytes == after[i].bytes);
  }
  if (!repaired.ok() || repaired->stopped_by != 0 || repaired->check_errors != 0) return;
  FUZZ_EXPECT(checked->stopped_by == 0 && checked->check_errors == 0);
  if (repaired->corruptions > 0) return;
  FUZZ_EXPECT(checked->corruptions == 0);
  FUZZ_EXPECT(scope == RepairScope::kLeaks || checked->leaks == 0);
}

}  // namespace

void FuzzRepair(std::span<const std::byte> input) {
  DiskImage content;
  content.Write(0, input);
  Repair(content, RepairScope::kLeaks);
  Repair(content, RepairScope::kAll);
}

}  // namespace ringcow
