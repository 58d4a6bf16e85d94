#include "tests/fuzz/probes.h"

#include <algorithm>
#include <utility>

namespace ringcow {
namespace {

constexpr uint64_t kProbes = 24;
constexpr uint64_t kBackingBytes = 250 * 1024;
constexpr uint64_t kDataFileBytes = 200 * 1024;

DiskImage Pattern(uint64_t bytes, uint64_t factor) {
  std::vector<std::byte> pattern(bytes);
  for (uint64_t i = 0; i < bytes; ++i) pattern[i] = static_cast<std::byte>(i / 512 * factor + 1);
  DiskImage image;
  image.Write(0, pattern);
  return image;
}

// Made once.
const DiskImage& BackingFile() {
  static const DiskImage& image = *new DiskImage(Pattern(kBackingBytes, 3));
  return image;
}
const DiskImage& DataFile() {
  static const DiskImage& image = *new DiskImage(Pattern(kDataFileBytes, 5));
  return image;
}

}  // namespace

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

std::vector<Seen> ReadAllOver(Loop& loop, GuestDisk& image) {
  std::vector<Seen> seen;
  for (const GuestOffset probe : Probes(image.size())) {
    std::vector<std::byte> buffer(kReadBytes);
    const bool read = loop.Run(image.Read(probe, buffer)).ok();
    seen.push_back({probe, read ? std::optional(std::move(buffer)) : std::nullopt});
  }
  return seen;
}

OtherFiles::OtherFiles(Loop& loop)
    : backing_disk_(loop, {.name = "backing", .latency = 1, .record = false}, BackingFile()),
      data_file_(loop, {.name = "data", .latency = 1, .record = false}, DataFile()),
      backing_(backing_disk_, /*read_only=*/true) {}

OpenOptions OtherFiles::Options(bool read_only) {
  OpenOptions options;
  options.read_only = read_only;
  options.cache_slice_bytes = 512;
  options.grow_ahead = false;
  options.backing = &backing_;
  options.data_file = &data_file_;
  return options;
}

}  // namespace ringcow
