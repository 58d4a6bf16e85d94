#include <algorithm>
#include <memory>
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
    probes.emplace_back(last / (kProbes / 2) * i + (i % 3) * 1000);
  }
  probes.emplace_back(last);
  return probes;
}

void ReadAllOver(Loop& loop, GuestDisk& image) {
  std::vector<std::byte> buffer(kReadBytes);
  for (const GuestOffset probe : Probes(image.size())) {
    loop.Run(image.Read(GuestOffset(std::min(probe.value(), image.size() - kReadBytes)), buffer))
        .IgnoreError();
  }
}

// Writes that are acknowledged are read back.
void WriteAndRead(Loop& loop, GuestDisk& image) {
  const std::vector<std::byte> data(3000, std::byte{0x5a});
  std::vector<std::byte> buffer(data.size());
  for (const GuestOffset probe : Probes(image.size())) {
    if (!loop.Run(image.Write(probe, data)).ok()) continue;
    FUZZ_EXPECT(loop.Run(image.Read(probe, buffer)).ok());
    FUZZ_EXPECT(buffer == data);
  }
  loop.Run(image.Flush()).IgnoreError();
}

}  // namespace

void FuzzImage(std::span<const std::byte> input) {
  Loop loop;
  DiskImage content;
  content.Write(0, input);
  SimDisk disk(loop, {.record = false}, std::move(content));
  const bool was_clean = Check(loop, disk).is_clean();

  OpenOptions options;
  options.read_only = true;
  options.cache_slice_bytes = 512;
  if (auto image = loop.Run(Image::Open(disk, options)); image.ok()) {
    ReadAllOver(loop, **image);
    loop.Run((*image)->Close()).IgnoreError();
  }
  options.read_only = false;
  options.grow_ahead = false;
  if (auto image = loop.Run(Image::Open(disk, options)); image.ok()) {
    WriteAndRead(loop, **image);
    loop.Run((*image)->Close()).IgnoreError();
  }
  // An image in which nothing is wrong stays so. Leaks may show: refcounts of clusters behind the
  // end of the file count as soon as it has grown over them.
  if (!was_clean) return;
  const CheckResult result = Check(loop, disk);
  FUZZ_EXPECT(result.corruptions == 0 && result.check_errors == 0);
}

}  // namespace ringcow
