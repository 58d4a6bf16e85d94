#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/loop.h"
#include "engine/testing/disk_image.h"
#include "engine/testing/sim_disk.h"
#include "qcow2/check.h"
#include "qcow2/image.h"
#include "tests/fuzz/targets.h"

namespace ringcow {
namespace {

constexpr uint64_t kReadBytes = 16384;
constexpr uint64_t kProbes = 24;

CheckResult Check(Loop& loop, Disk& disk) {
  // Ends in a status or in findings, whatever the image is.
  const absl::StatusOr<CheckResult> result = loop.Run(CheckImage(disk, {}));
  CheckResult failed;
  failed.check_errors = 1;
  return result.value_or(failed);
}

// Places all over the disk, and both ends. A disk may have 2^61 bytes, so not all of it.
std::vector<GuestOffset> Probes(uint64_t size) {
  std::vector<GuestOffset> probes;
  if (size < kReadBytes) return probes;
  const uint64_t last = size - kReadBytes;
  for (uint64_t i = 0; i < kProbes / 2; ++i) {
    probes.emplace_back(std::min(i * kReadBytes, last));
    probes.emplace_back(std::min(last / (kProbes / 2) * i + (i % 3) * 1000, last));
  }
  probes.emplace_back(last);
  return probes;
}

// What the guest sees at a place; nothing where it cannot be read.
struct Seen {
  GuestOffset offset;
  std::optional<std::vector<std::byte>> bytes;
};

std::vector<Seen> ReadAllOver(Loop& loop, GuestDisk& image) {
  std::vector<Seen> seen;
  for (const GuestOffset probe : Probes(image.size())) {
    std::vector<std::byte> buffer(kReadBytes);
    const bool read = loop.Run(image.Read(probe, buffer)).ok();
    seen.push_back({probe, read ? std::optional(std::move(buffer)) : std::nullopt});
  }
  return seen;
}

// The part of `seen` that a write of `data` at `offset` covers becomes what was written.
void Overlay(GuestOffset offset, std::span<const std::byte> data, Seen& seen) {
  if (!seen.bytes.has_value()) return;
  const uint64_t begin = std::max(offset.value(), seen.offset.value());
  const uint64_t end = std::min(offset.value() + data.size(), seen.offset.value() + kReadBytes);
  for (uint64_t at = begin; at < end; ++at) {
    (*seen.bytes)[at - seen.offset.value()] = data[at - offset.value()];
  }
}

// Acknowledged writes are read back, and nothing else changes in what was `seen`. One that failed
// may have been done in part: then only the written bytes are looked at.
void WriteAndRead(Loop& loop, GuestDisk& image, std::vector<Seen> seen, bool was_clean) {
  const std::vector<std::byte> data(3000, std::byte{0x5a});
  std::vector<std::byte> buffer(data.size());
  bool all_written = true;
  for (const GuestOffset probe : Probes(image.size())) {
    if (!loop.Run(image.Write(probe, data)).ok()) {
      all_written = false;
      continue;
    }
    FUZZ_EXPECT(loop.Run(image.Read(probe, buffer)).ok());
    FUZZ_EXPECT(buffer == data);
    for (Seen& place : seen) Overlay(probe, data, place);
  }
  loop.Run(image.Flush()).IgnoreError();
  if (!was_clean || !all_written) return;
  const std::vector<Seen> now = ReadAllOver(loop, image);
  for (size_t i = 0; i < now.size(); ++i) {
    FUZZ_EXPECT(!seen[i].bytes.has_value() || seen[i].bytes == now[i].bytes);
  }
}

// Zeroes read as zeroes, and what is discarded can be read.
void ZeroAndDiscard(Loop& loop, GuestDisk& image) {
  const std::vector<std::byte> zeroes(3000);
  std::vector<std::byte> buffer(zeroes.size());
  const std::vector<GuestOffset> probes = Probes(image.size());
  for (size_t i = 0; i < probes.size(); ++i) {
    if (i % 3 == 2) {
      loop.Run(image.Discard(probes[i], kReadBytes)).IgnoreError();
      continue;
    }
    const auto manner = i % 3 == 0 ? ZeroManner::kKeepSpace : ZeroManner::kMayUnmap;
    if (!loop.Run(image.WriteZeroes(probes[i], zeroes.size(), manner)).ok()) continue;
    FUZZ_EXPECT(loop.Run(image.Read(probes[i], buffer)).ok());
    FUZZ_EXPECT(buffer == zeroes);
  }
  loop.Run(image.Flush()).IgnoreError();
}

// Only where few tables have to be walked: a large L1 table may name one L2 table a million times.
void GoThroughSnapshots(Loop& loop, Image& image) {
  constexpr uint32_t kFewL1Entries = 64;
  if (image.header().l1_entries > kFewL1Entries) return;
  const std::vector<std::byte> data(3000, std::byte{0xa5});
  if (!loop.Run(image.CreateSnapshot(Snapshot())).ok()) return;
  const size_t created = image.snapshots().size() - 1;
  for (const GuestOffset probe : Probes(image.size())) {
    loop.Run(image.Write(probe, data)).IgnoreError();
  }
  loop.Run(image.ApplySnapshot(created)).IgnoreError();
  loop.Run(image.DeleteSnapshot(created)).IgnoreError();
}

}  // namespace

void FuzzImage(std::span<const std::byte> input) {
  Loop loop;
  DiskImage content;
  content.Write(0, input);
  SimDisk disk(loop, {.record = false}, std::move(content));
  const bool was_clean = Check(loop, disk).is_clean();

  std::vector<Seen> seen;
  OpenOptions options;
  options.read_only = true;
  options.cache_slice_bytes = 512;
  if (auto image = loop.Run(Image::Open(disk, options)); image.ok()) {
    seen = ReadAllOver(loop, **image);
    loop.Run((*image)->Close()).IgnoreError();
  }
  options.read_only = false;
  options.grow_ahead = false;
  if (auto image = loop.Run(Image::Open(disk, options)); image.ok()) {
    FUZZ_EXPECT(seen.size() == Probes((*image)->size()).size());
    WriteAndRead(loop, **image, std::move(seen), was_clean);
    ZeroAndDiscard(loop, **image);
    GoThroughSnapshots(loop, **image);
    loop.Run((*image)->Close()).IgnoreError();
  }
  // An image in which nothing is wrong stays so. Leaks may show: refcounts of clusters behind the
  // end of the file count as soon as it has grown over them.
  if (!was_clean) return;
  const CheckResult result = Check(loop, disk);
  FUZZ_EXPECT(result.corruptions == 0 && result.check_errors == 0);
}

}  // namespace ringcow
