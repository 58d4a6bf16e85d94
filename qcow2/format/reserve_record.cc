#include "qcow2/format/reserve_record.h"

#include <zlib.h>

#include <algorithm>
#include <iterator>

#include "engine/invariant.h"
#include "qcow2/format/big_endian.h"

namespace ringcow {
namespace {

constexpr uint64_t kMagic = 0x7269'6e67'636f'7772;  // "ringcowr"

struct RunOnDisk {
  Be64 first;
  Be64 count;
};

struct RecordOnDisk {
  Be64 magic;
  Be32 checksum;  // the CRC-32 of all that follows, to the end of the sector
  Be32 runs;
  Be64 l1_begin;
  Be64 l1_end;
  RunOnDisk run[ReserveRecord::kMostRuns];
  Be64 unused[2];
};
static_assert(sizeof(RecordOnDisk) == ReserveRecord::kBytes);

uint32_t ChecksumOf(const RecordOnDisk& record) {
  const auto* const begin = reinterpret_cast<const Bytef*>(&record.runs);
  const auto* const end = reinterpret_cast<const Bytef*>(&record + 1);
  return static_cast<uint32_t>(crc32(0, begin, static_cast<uInt>(end - begin)));
}

bool IsValid(const ReserveRecord& record) {
  uint64_t clusters = 0;
  ClusterIndex end(0);
  for (const ClusterRun& run : record.runs) {
    // A sum that would not fit begins behind it.
    if (run.count == 0 || run.count > ReserveRecord::kMostClusters || run.first < end) return false;
    if (run.end() < run.first) return false;
    clusters += run.count;
    end = run.end();
  }
  return clusters <= ReserveRecord::kMostClusters && record.l1_begin <= record.l1_end;
}

}  // namespace

bool ReserveRecord::Add(ClusterRun run) {
  uint64_t clusters = run.count;
  for (const ClusterRun& other : runs) clusters += other.count;
  if (clusters > kMostClusters) return false;
  const auto next =
      std::ranges::find_if(runs, [&](const ClusterRun& other) { return run.end() <= other.first; });
  if (next != runs.begin() && std::prev(next)->end() == run.first) {
    std::prev(next)->count += run.count;
    return true;
  }
  if (runs.size() == kMostRuns) return false;
  runs.insert(next, run);
  return true;
}

void EncodeReserveRecord(const ReserveRecord& record, std::span<std::byte> into) {
  RINGCOW_INVARIANT(into.size() == ReserveRecord::kBytes && IsValid(record) &&
                        record.runs.size() <= ReserveRecord::kMostRuns,
                    "a record that can be read again");
  std::ranges::fill(into, std::byte{0});
  auto& stored = *reinterpret_cast<RecordOnDisk*>(into.data());
  stored.magic = Be64(kMagic);
  stored.runs = Be32(static_cast<uint32_t>(record.runs.size()));
  stored.l1_begin = Be64(record.l1_begin);
  stored.l1_end = Be64(record.l1_end);
  for (size_t i = 0; i < record.runs.size(); ++i) {
    stored.run[i] = {Be64(record.runs[i].first.value()), Be64(record.runs[i].count)};
  }
  stored.checksum = Be32(ChecksumOf(stored));
}

std::optional<ReserveRecord> DecodeReserveRecord(std::span<const std::byte> from) {
  if (from.size() != ReserveRecord::kBytes) return std::nullopt;
  const auto& stored = *reinterpret_cast<const RecordOnDisk*>(from.data());
  if (stored.magic.value() != kMagic || stored.checksum.value() != ChecksumOf(stored) ||
      stored.runs.value() > ReserveRecord::kMostRuns) {
    return std::nullopt;
  }
  ReserveRecord record{
      .runs = {}, .l1_begin = stored.l1_begin.value(), .l1_end = stored.l1_end.value()};
  for (size_t i = 0; i < stored.runs.value(); ++i) {
    record.runs.push_back({ClusterIndex(stored.run[i].first.value()), stored.run[i].count.value()});
  }
  if (!IsValid(record)) return std::nullopt;
  return record;
}

}  // namespace ringcow
