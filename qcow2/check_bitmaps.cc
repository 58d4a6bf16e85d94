#include "qcow2/check_bitmaps.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <span>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"
#include "qcow2/check_ranges.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/bitmap_directory.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/format/limits.h"

namespace ringcow {
namespace {

constexpr uint64_t kSliceBytes = uint64_t{256} << 10;

void Broken(ReferenceCounter& counter, const absl::Status& why) {
  counter.findings().Report(absl::StrFormat("ERROR %s", why.message()));
  counter.findings().Stop(EINVAL);
}

void CountTableEntries(std::span<const std::byte> slice, uint64_t weight,
                       ReferenceCounter& counter) {
  const Geometry& geometry = counter.geometry();
  for (size_t i = 0; i < slice.size() / kTableEntryBytes; ++i) {
    const BitmapTableEntry entry = BitmapTableEntry::FromRaw(LoadBe64At(slice, i));
    const std::optional<HostOffset> cluster = entry.cluster();
    if (!entry.IsValid(geometry)) {
      counter.findings().Corruption(
          absl::StrFormat("ERROR invalid bitmap table entry: %x", entry.raw()), weight);
    } else if (cluster) {
      counter.AddRange(*cluster, geometry.cluster_bytes(), weight);
    }
  }
}

Task<absl::Status> CountTables(Disk& disk, const std::vector<BitmapDirectoryEntry>& bitmaps,
                               ReferenceCounter& counter) {
  std::vector<WeightedRange> tables;
  for (const BitmapDirectoryEntry& bitmap : bitmaps) {
    const uint64_t begin = bitmap.table_offset.value();
    tables.push_back({.begin = begin, .end = begin + bitmap.table_entries * kTableEntryBytes});
  }
  counter.AddTables(tables);

  AlignedBuffer buffer(kSliceBytes);
  for (const WeightedRange& range : SplitOverlaps(tables)) {
    const uint64_t end = std::min(range.end, AlignUp(disk.size(), kTableEntryBytes));
    for (uint64_t at = range.begin; at < end; at += kSliceBytes) {
      const auto slice = buffer.span().first(std::min(kSliceBytes, end - at));
      CO_RETURN_IF_ERROR(co_await disk.Read(HostOffset(at), slice, Content::kOther));
      CountTableEntries(slice, range.weight, counter);
    }
  }
  co_return absl::OkStatus();
}

}  // namespace

Task<absl::Status> CountBitmaps(Disk& disk, const Header& header, ReferenceCounter& counter) {
  const bool valid = (header.autoclear_features & kAutoclearBitmaps) != 0;
  if (!valid || !header.extensions.bitmaps) co_return absl::OkStatus();
  const absl::StatusOr<BitmapsExtension> extension =
      ParseBitmapsExtension(*header.extensions.bitmaps, counter.geometry());
  if (!extension.ok()) {
    Broken(counter, extension.status());
    co_return absl::OkStatus();
  }
  const HostOffset offset = extension->directory_offset;
  counter.AddRange(offset, extension->directory_bytes);
  if (offset.value() >= disk.size() || extension->directory_bytes > disk.size() - offset.value()) {
    Broken(counter, absl::InvalidArgumentError("Bitmap directory lies beyond the end of the file"));
    co_return absl::OkStatus();
  }
  AlignedBuffer directory(extension->directory_bytes);
  CO_RETURN_IF_ERROR(co_await disk.Read(offset, directory.span(), Content::kOther));
  const absl::StatusOr<std::vector<BitmapDirectoryEntry>> bitmaps =
      ParseBitmapDirectory(directory.span(), extension->nb_bitmaps, counter.geometry());
  if (!bitmaps.ok()) {
    Broken(counter, bitmaps.status());
    co_return absl::OkStatus();
  }
  co_return co_await CountTables(disk, *bitmaps, counter);
}

}  // namespace ringcow
