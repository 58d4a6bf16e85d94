#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/loop.h"
#include "engine/testing/disk_image.h"
#include "engine/testing/sim_disk.h"
#include "qcow2/check.h"
#include "qcow2/image.h"
#include "tests/fuzz/probes.h"
#include "tests/fuzz/targets.h"

namespace ringcow {
namespace {

CheckResult Check(Loop& loop, Disk& disk) {
  // Ends in a status or in findings, whatever the image is.
  const absl::StatusOr<CheckResult> result = loop.Run(CheckImage(disk, {}));
  CheckResult failed;
  failed.check_errors = 1;
  return result.value_or(failed);
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
// may have been done in part: then only the written bytes are looked at. An image that was found to
// be corrupt on the way is not read any more. Where was written.
std::vector<GuestOffset> WriteAndRead(Loop& loop, Image& image, std::vector<Seen> seen,
                                      bool was_clean) {
  const std::vector<std::byte> data(3000, std::byte{0x5a});
  std::vector<std::byte> buffer(data.size());
  std::vector<GuestOffset> written;
  bool all_written = true;
  for (const GuestOffset probe : Probes(image.size())) {
    if (!loop.Run(image.Write(probe, data)).ok()) {
      all_written = false;
      continue;
    }
    FUZZ_EXPECT(loop.Run(image.Read(probe, buffer)).ok());
    FUZZ_EXPECT(buffer == data);
    written.push_back(probe);
    for (Seen& place : seen) Overlay(probe, data, place);
  }
  loop.Run(image.Flush()).IgnoreError();
  if (!was_clean || !all_written) return written;
  const std::vector<Seen> now = ReadAllOver(loop, image);
  for (size_t i = 0; i < now.size(); ++i) {
    if (!now[i].bytes.has_value() && image.header().corrupt()) continue;
    FUZZ_EXPECT(!seen[i].bytes.has_value() || seen[i].bytes == now[i].bytes);
  }
  return written;
}

// Zeroes read as zeroes, and what is discarded can be read. A raw data file is zeroed without a
// look at the tables, and an entry that names another place of it is no finding of a check, as in
// QEMU.
void ZeroAndDiscard(Loop& loop, Image& image) {
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
    const bool is_readable = loop.Run(image.Read(probes[i], buffer)).ok();
    FUZZ_EXPECT(is_readable ? buffer == zeroes : image.header().raw_external_data());
  }
  loop.Run(image.Flush()).IgnoreError();
}

// Only where few tables have to be walked: a large L1 table may name one L2 table a million times.
bool HasFewTables(const Image& image) {
  constexpr uint32_t kFewL1Entries = 64;
  const auto& snapshots = image.snapshots();
  return image.header().l1_entries <= kFewL1Entries &&
         std::ranges::all_of(snapshots, [](const Snapshot& snapshot) {
           return snapshot.l1_entries <= kFewL1Entries;
         });
}

// What was read before it was created is read after it was applied.
void CreateAndApply(Loop& loop, Image& image, bool was_clean) {
  const std::vector<std::byte> data(3000, std::byte{0xa5});
  const std::vector<Seen> before = ReadAllOver(loop, image);
  if (!loop.Run(image.CreateSnapshot(Snapshot())).ok()) return;
  const size_t created = image.snapshots().size() - 1;
  for (const GuestOffset probe : Probes(image.size())) {
    loop.Run(image.Write(probe, data)).IgnoreError();
  }
  const bool is_applied = loop.Run(image.ApplySnapshot(created)).ok();
  if (was_clean && is_applied) {
    const std::vector<Seen> after = ReadAllOver(loop, image);
    FUZZ_EXPECT(after.size() == before.size());
    for (size_t i = 0; i < after.size(); ++i) {
      FUZZ_EXPECT(!before[i].bytes.has_value() || before[i].bytes == after[i].bytes);
    }
  }
  loop.Run(image.DeleteSnapshot(created)).IgnoreError();
}

// Also those that the image came with.
void GoThroughSnapshots(Loop& loop, Image& image, bool was_clean) {
  if (!HasFewTables(image)) return;
  CreateAndApply(loop, image, was_clean);
  if (image.snapshots().empty()) return;
  loop.Run(image.ApplySnapshot(image.snapshots().size() - 1)).IgnoreError();
  loop.Run(image.DeleteSnapshot(0)).IgnoreError();
}

// Bitmaps that can be used call all of `written` dirty, if they have been enabled all the time.
void UseBitmaps(Loop& loop, Image& image, const std::vector<GuestOffset>& written) {
  const auto bitmaps = loop.Run(image.ListBitmaps());
  FUZZ_EXPECT(bitmaps.ok());  // they were loaded when the image was opened
  for (const BitmapDirectoryEntry& bitmap : *bitmaps) {
    const absl::StatusOr<DirtyBitmap> bits = loop.Run(image.ReadBitmap(bitmap.name));
    FUZZ_EXPECT(bits.ok() == bitmap.usable());
    if (!bits.ok() || !bitmap.automatic) continue;
    for (const GuestOffset offset : written) FUZZ_EXPECT(bits->Get(offset));
  }
  loop.Run(image.AddBitmap("added", 65536, /*enabled=*/true)).IgnoreError();
  for (size_t i = 0; i < bitmaps->size(); ++i) {
    const std::string& name = (*bitmaps)[i].name;
    switch (i % 4) {
      case 0:
        loop.Run(image.RemoveBitmap(name)).IgnoreError();
        break;
      case 1:
        loop.Run(image.ClearBitmap(name)).IgnoreError();
        break;
      case 2:
        loop.Run(image.SetBitmapEnabled(name, !(*bitmaps)[i].automatic)).IgnoreError();
        break;
      default:
        if (const auto bits = loop.Run(image.ReadBitmap(name)); bits.ok()) {
          loop.Run(image.MergeBitmap("added", *bits)).IgnoreError();
        }
    }
  }
}

// As they are stored: by an image that is only read.
void ListBitmaps(Loop& loop, Image& image) {
  const auto bitmaps = loop.Run(image.ListBitmaps());
  if (!bitmaps.ok()) return;
  for (const BitmapDirectoryEntry& bitmap : *bitmaps) {
    loop.Run(image.ReadBitmap(bitmap.name)).IgnoreError();
  }
}

void LookAtSnapshots(Loop& loop, Disk& disk, OpenOptions options,
                     const std::vector<Snapshot>& snapshots) {
  constexpr size_t kSome = 2;
  for (size_t i = 0; i < std::min(kSome, snapshots.size()); ++i) {
    options.snapshot.emplace();
    options.snapshot->id = snapshots[i].id;
    if (auto image = loop.Run(Image::Open(disk, options)); image.ok()) {
      (void)ReadAllOver(loop, **image);
    }
  }
}

}  // namespace

void FuzzImage(std::span<const std::byte> input) {
  Loop loop;
  DiskImage content;
  content.Write(0, input);
  SimDisk disk(loop, {.record = false}, std::move(content));
  OtherFiles others(loop);
  const bool was_clean = Check(loop, disk).is_clean();

  std::vector<Seen> seen;
  if (auto image = loop.Run(Image::Open(disk, others.Options(/*read_only=*/true))); image.ok()) {
    seen = ReadAllOver(loop, **image);
    ListBitmaps(loop, **image);
    LookAtSnapshots(loop, disk, others.Options(/*read_only=*/true), (*image)->snapshots());
    loop.Run((*image)->Close()).IgnoreError();
  }
  if (auto image = loop.Run(Image::Open(disk, others.Options(/*read_only=*/false))); image.ok()) {
    FUZZ_EXPECT(seen.size() == Probes((*image)->size()).size());
    const std::vector<GuestOffset> written =
        WriteAndRead(loop, **image, std::move(seen), was_clean);
    UseBitmaps(loop, **image, written);
    ZeroAndDiscard(loop, **image);
    GoThroughSnapshots(loop, **image, was_clean);
    loop.Run((*image)->Close()).IgnoreError();
  }
  // An image in which nothing is wrong stays so. Leaks may show: refcounts of clusters behind the
  // end of the file count as soon as it has grown over them.
  if (!was_clean) return;
  const CheckResult result = Check(loop, disk);
  FUZZ_EXPECT(result.corruptions == 0 && result.check_errors == 0);
}

}  // namespace ringcow
