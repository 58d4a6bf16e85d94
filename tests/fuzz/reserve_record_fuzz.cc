#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/loop.h"
#include "engine/testing/disk_image.h"
#include "engine/testing/sim_disk.h"
#include "qcow2/check.h"
#include "qcow2/format/reserve_record.h"
#include "qcow2/image.h"
#include "tests/fuzz/probes.h"
#include "tests/fuzz/targets.h"

namespace ringcow {
namespace {

constexpr size_t kClusterBitsAt = 20;
constexpr size_t kAutoclearFeaturesAt = 88;
constexpr size_t kHeaderBytes = 104;

// Any that can be stored.
ReserveRecord TakeRecord(std::span<const std::byte>& input) {
  ReserveRecord record;
  const size_t runs = Take<uint8_t>(input) % (ReserveRecord::kMostRuns + 1);
  record.l1_begin = Take<uint32_t>(input);
  record.l1_end = record.l1_begin + Take<uint32_t>(input);
  ClusterIndex end(0);
  for (size_t i = 0; i < runs; ++i) {
    const ClusterIndex first = end + Take<uint32_t>(input);
    const uint64_t count = std::max<uint16_t>(1, Take<uint16_t>(input));
    if (!record.Add({first, count})) break;
    end = first + count;
  }
  return record;
}

void ExpectReadBack(const ReserveRecord& record, std::span<std::byte> sector) {
  EncodeReserveRecord(record, sector);
  const std::optional<ReserveRecord> decoded = DecodeReserveRecord(sector);
  FUZZ_EXPECT(decoded.has_value() && decoded->runs == record.runs);
  FUZZ_EXPECT(decoded->l1_begin == record.l1_begin && decoded->l1_end == record.l1_end);
}

// Makes `record`, whatever it says, that of the image. False where it has no room for any.
bool PutRecord(const ReserveRecord& record, std::span<const std::byte> image, DiskImage& content) {
  if (image.size() < kHeaderBytes) return false;
  const auto cluster_bits = LoadBe<uint32_t>(image.data() + kClusterBitsAt);
  if (cluster_bits <= 9 || cluster_bits > 21) return false;
  std::vector<std::byte> sector(ReserveRecord::kBytes);
  ExpectReadBack(record, sector);
  content.Write(ReserveRecord::PlaceIn(uint64_t{1} << cluster_bits), sector);
  const std::byte with_record = image[kAutoclearFeaturesAt] | std::byte{0x80};
  content.Write(kAutoclearFeaturesAt, std::span(&with_record, 1));
  return true;
}

bool HasNothingWrong(Loop& loop, Disk& disk) {
  const absl::StatusOr<CheckResult> result = loop.Run(CheckImage(disk, {}));
  return result.ok() && result->corruptions == 0 && result->check_errors == 0;
}

// A record that leaves out what refers to clusters is a lie, which a crash cannot leave behind: it
// may cost the image what it holds, and nothing beyond.
bool IsComplete(const ReserveRecord& record, const Image& image) {
  return record.l1_begin == 0 && record.l1_end >= image.header().l1_entries &&
         image.snapshots().empty() && !image.header().extensions.bitmaps.has_value();
}

}  // namespace

void FuzzReserveRecord(std::span<const std::byte> input) {
  const ReserveRecord record = TakeRecord(input);
  DiskImage content;
  content.Write(0, input);
  if (!PutRecord(record, input, content)) return;
  Loop loop;
  SimDisk disk(loop, {.record = false}, std::move(content));
  OtherFiles others(loop);
  const bool was_right = HasNothingWrong(loop, disk);
  std::vector<Seen> seen;
  bool is_complete = false;
  if (auto image = loop.Run(Image::Open(disk, others.Options(/*read_only=*/true))); image.ok()) {
    seen = ReadAllOver(loop, **image);
    is_complete = IsComplete(record, **image);
  }
  auto image = loop.Run(Image::Open(disk, others.Options(/*read_only=*/false)));
  if (!image.ok()) return;
  const std::vector<Seen> now = ReadAllOver(loop, **image);
  for (size_t i = 0; was_right && i < seen.size(); ++i) {
    // It was found to be corrupt on the way: it is not read any more.
    if (!now[i].bytes.has_value() && (*image)->header().corrupt()) continue;
    FUZZ_EXPECT(seen[i].bytes == now[i].bytes);
  }
  const std::vector<std::byte> data(3000, std::byte{0x5a});
  for (const GuestOffset probe : Probes((*image)->size())) {
    loop.Run((*image)->Write(probe, data)).IgnoreError();
  }
  loop.Run((*image)->Close()).IgnoreError();
  if (was_right && is_complete) FUZZ_EXPECT(HasNothingWrong(loop, disk));
}

}  // namespace ringcow
