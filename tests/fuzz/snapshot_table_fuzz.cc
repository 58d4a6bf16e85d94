#include <vector>

#include "qcow2/format/geometry.h"
#include "qcow2/format/snapshot_table.h"
#include "tests/fuzz/targets.h"

namespace ringcow {

void FuzzSnapshotTable(std::span<const std::byte> input) {
  const auto nb_snapshots = Take<uint32_t>(input);
  const absl::StatusOr<SnapshotTable> table = ParseSnapshotTable(input, nb_snapshots);
  if (!table.ok()) return;
  FUZZ_EXPECT(table->snapshots.size() <= nb_snapshots);
  FUZZ_EXPECT((table->snapshots.size() == nb_snapshots) == (table->bytes <= input.size()));
  const Geometry geometry = *Geometry::Create({.virtual_size = 1 << 20});
  for (const Snapshot& snapshot : table->snapshots) {
    ValidateSnapshotL1Table(snapshot, geometry).IgnoreError();
    FUZZ_EXPECT(FindSnapshotByIdOrName(table->snapshots, snapshot.id).has_value());
    FUZZ_EXPECT(FindSnapshotByName(table->snapshots, snapshot.name).has_value());
  }
  const std::string next = NextSnapshotId(table->snapshots);
  FUZZ_EXPECT(!next.empty() && next[0] != '0');

  const absl::StatusOr<std::vector<std::byte>> bytes = SerializeSnapshotTable(table->snapshots);
  FUZZ_EXPECT(bytes.ok());
  const auto count = static_cast<uint32_t>(table->snapshots.size());
  const absl::StatusOr<SnapshotTable> again = ParseSnapshotTable(*bytes, count);
  FUZZ_EXPECT(again.ok() && again->snapshots.size() == count && again->bytes == bytes->size());
  FUZZ_EXPECT(*SerializeSnapshotTable(again->snapshots) == *bytes);
  for (uint32_t i = 0; i < count; ++i) {
    const Snapshot& before = table->snapshots[i];
    const Snapshot& after = again->snapshots[i];
    FUZZ_EXPECT(before.id == after.id && before.name == after.name);
    FUZZ_EXPECT(before.vm_state_bytes == after.vm_state_bytes);
    FUZZ_EXPECT(before.virtual_size == after.virtual_size && before.icount == after.icount);
    FUZZ_EXPECT(before.extra_data == after.extra_data);
  }
}

}  // namespace ringcow
