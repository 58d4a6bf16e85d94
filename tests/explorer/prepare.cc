#include "tests/explorer/prepare.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/invariant.h"
#include "engine/loop.h"
#include "engine/testing/sim_disk.h"
#include "qcow2/create.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/header_layout.h"
#include "qcow2/format/l2_entry.h"
#include "qcow2/format/limits.h"
#include "qcow2/image.h"
#include "tests/explorer/inherited_disk.h"

namespace ringcow {
namespace {

void MustBeOk(const absl::Status& status) {
  RINGCOW_INVARIANT(status.ok(), status.ToString().c_str());
}

// Zeroes, which the guest expects where it never wrote, take up clusters like anything else.
Task<absl::Status> Fill(Image& image, uint64_t bytes) {
  const std::vector<std::byte> zeroes(bytes);
  co_return co_await image.Write(GuestOffset(image.size() - bytes), zeroes);
}

// Makes the disk smaller than it was, and forgets what was behind its new end.
void CutOff(DiskImage& image, uint64_t virtual_size, const Scenario& scenario) {
  const auto read = [&image](uint64_t at) {
    std::vector<std::byte> bytes(sizeof(uint64_t));
    image.Read(at, bytes);
    return LoadBe<uint64_t>(bytes.data());
  };
  const auto write = [&image](uint64_t at, uint64_t value) {
    std::vector<std::byte> bytes(sizeof(uint64_t));
    StoreBe<uint64_t>(bytes.data(), value);
    image.Write(at, bytes);
  };
  const uint64_t old_size = read(offsetof(HeaderOnDisk, size));
  const uint64_t l1_table = read(offsetof(HeaderOnDisk, l1_table_offset));
  const uint64_t per_l2_table =
      scenario.create.cluster_size / kTableEntryBytes * scenario.create.cluster_size;
  RINGCOW_INVARIANT(virtual_size % per_l2_table == 0, "an L2 table is forgotten as a whole");
  for (uint64_t at = virtual_size; at < old_size; at += per_l2_table) {
    write(l1_table + at / per_l2_table * kTableEntryBytes, 0);
  }
  write(offsetof(HeaderOnDisk, size), virtual_size);
}

// Entries of an L2 table that was here once: they name a cluster that is in use, as its only user.
void AddStaleClusters(const Scenario& scenario, DiskImage& image) {
  const uint64_t cluster_bytes = scenario.create.cluster_size;
  const uint64_t begin = AlignUp(image.size(), cluster_bytes);
  const L2Entry entry = L2Entry::Normal(HostOffset(3 * cluster_bytes), /*copied=*/true);
  std::vector<std::byte> bytes(scenario.stale_bytes);
  for (uint64_t i = 0; i < bytes.size() / kTableEntryBytes; ++i) {
    StoreBe64At(bytes, i, entry.raw());
  }
  image.Write(begin, bytes);
}

}  // namespace

DiskImage Prepare(const Scenario& scenario) {
  Loop loop;
  SimDisk disk(loop, {.alignment = scenario.disk_alignment, .record = false});
  CreateOptions create = scenario.create;
  create.virtual_size += scenario.leaked_clusters * create.cluster_size;
  MustBeOk(loop.Run(CreateImage(disk, create)));
  InheritedDisk inherited(scenario.inherited_units, scenario.unit_bytes);
  OpenOptions options;
  options.backing = &inherited;
  absl::StatusOr<std::unique_ptr<Image>> image = loop.Run(Image::Open(disk, options));
  MustBeOk(image.status());
  const uint64_t leaked_bytes = create.virtual_size - scenario.create.virtual_size;
  if (scenario.filled_units > 0) {
    MustBeOk(loop.Run(Fill(**image, leaked_bytes + scenario.filled_units * scenario.unit_bytes)));
  }
  MustBeOk(loop.Run((*image)->Close()));
  DiskImage content = disk.content();
  if (leaked_bytes > 0) CutOff(content, scenario.create.virtual_size, scenario);
  if (scenario.stale_bytes > 0) AddStaleClusters(scenario, content);
  return content;
}

}  // namespace ringcow
