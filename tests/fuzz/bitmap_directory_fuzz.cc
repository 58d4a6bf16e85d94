#include <algorithm>
#include <vector>

#include "qcow2/format/bitmap_directory.h"
#include "qcow2/format/geometry.h"
#include "tests/fuzz/targets.h"

namespace ringcow {

void FuzzBitmapDirectory(std::span<const std::byte> input) {
  const auto nb_bitmaps = Take<uint32_t>(input);
  const Geometry geometry = *Geometry::Create({.cluster_bits = 12, .virtual_size = 3 << 20});
  ParseBitmapsExtension(input, geometry).IgnoreError();
  for (size_t i = 0; i < std::min<size_t>(input.size() / 8, 64); ++i) {
    const BitmapTableEntry entry = BitmapTableEntry::FromRaw(LoadBe64At(input, i));
    if (!entry.IsValid(geometry)) continue;
    const BitmapTableEntry built = entry.cluster().has_value()
                                       ? BitmapTableEntry::Cluster(*entry.cluster())
                                   : entry.all_ones() ? BitmapTableEntry::AllOnes()
                                                      : BitmapTableEntry::AllZeroes();
    FUZZ_EXPECT(built == entry);
  }

  const absl::StatusOr<std::vector<BitmapDirectoryEntry>> entries =
      ParseBitmapDirectory(input, nb_bitmaps, geometry);
  if (!entries.ok()) return;
  FUZZ_EXPECT(entries->size() == nb_bitmaps);
  const absl::StatusOr<std::vector<std::byte>> bytes = SerializeBitmapDirectory(*entries);
  if (!bytes.ok()) {
    FUZZ_EXPECT(absl::IsOutOfRange(bytes.status()));
    return;
  }
  FUZZ_EXPECT(bytes->size() == input.size());
  const auto again = ParseBitmapDirectory(*bytes, nb_bitmaps, geometry);
  FUZZ_EXPECT(again.ok());
  FUZZ_EXPECT(*SerializeBitmapDirectory(*again) == *bytes);
  for (size_t i = 0; i < entries->size(); ++i) {
    const BitmapDirectoryEntry& before = (*entries)[i];
    const BitmapDirectoryEntry& after = (*again)[i];
    FUZZ_EXPECT(before.name == after.name && before.extra_data == after.extra_data);
    FUZZ_EXPECT(before.usable() == after.usable() && before.automatic == after.automatic);
    FUZZ_EXPECT(FindBitmap(*entries, before.name).has_value());
  }
}

}  // namespace ringcow
