#include "qcow2/bitmap_contents.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/limits.h"

namespace ringcow {

Task<absl::StatusOr<std::vector<BitmapDirectoryEntry>>> BitmapContents::ReadDirectory(
    BitmapsExtension place) {
  CO_RETURN_IF_ERROR(
      metadata_.CheckPlace(place.directory_offset, place.directory_bytes, "bitmap directory"));
  const AlignedBuffer directory(place.directory_bytes);
  CO_RETURN_IF_ERROR(
      co_await metadata_.disk.Read(place.directory_offset, directory.span(), Content::kOther));
  auto entries = ParseBitmapDirectory(directory.span(), place.nb_bitmaps, metadata_.geometry);
  CO_RETURN_IF_ERROR(Named(metadata_.disk, entries.status()));
  co_return entries;
}

Task<absl::StatusOr<std::vector<BitmapTableEntry>>> BitmapContents::ReadTable(
    BitmapDirectoryEntry entry) {
  const uint64_t bytes = entry.table_entries * kTableEntryBytes;
  CO_RETURN_IF_ERROR(metadata_.CheckPlace(entry.table_offset, bytes, "bitmap table"));
  const AlignedBuffer raw(bytes);
  CO_RETURN_IF_ERROR(co_await metadata_.disk.Read(entry.table_offset, raw.span(), Content::kOther));
  std::vector<BitmapTableEntry> table;
  table.reserve(entry.table_entries);
  for (uint64_t i = 0; i < entry.table_entries; ++i) {
    table.push_back(BitmapTableEntry::FromRaw(LoadBe64At(raw.span(), i)));
    if (!table.back().IsValid(metadata_.geometry)) {
      co_return absl::InvalidArgumentError(
          absl::StrFormat("'%s': bitmap '%s': entry %d of its table is %#x", metadata_.disk.name(),
                          entry.name, i, table.back().raw()));
    }
    if (const std::optional<HostOffset> cluster = table.back().cluster()) {
      CO_RETURN_IF_ERROR(
          metadata_.CheckPlace(*cluster, metadata_.geometry.cluster_bytes(), "bitmap cluster"));
    }
  }
  co_return table;
}

Task<absl::Status> BitmapContents::Read(BitmapDirectoryEntry entry, DirtyBitmap& into) {
  const auto within_file = [this, &entry](uint64_t bytes) {
    bytes_read_ += bytes;
    if (bytes_read_ <= metadata_.clusters_end.value()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrFormat("'%s': bitmap '%s': bitmaps have more clusters than the file",
                        metadata_.disk.name(), entry.name));
  };
  CO_RETURN_IF_ERROR(within_file(entry.table_entries * kTableEntryBytes));
  CO_ASSIGN_OR_RETURN(const std::vector<BitmapTableEntry> table, co_await ReadTable(entry));
  const AlignedBuffer bits(metadata_.geometry.cluster_bytes());
  const uint64_t clusters = std::min<uint64_t>(into.clusters(), table.size());
  for (uint64_t i = 0; i < clusters; ++i) {
    if (table[i].all_ones()) into.FillCluster(i);
    const std::optional<HostOffset> cluster = table[i].cluster();
    if (!cluster.has_value()) continue;
    CO_RETURN_IF_ERROR(within_file(bits.size()));
    CO_RETURN_IF_ERROR(co_await metadata_.disk.Read(*cluster, bits.span(), Content::kOther));
    into.LoadCluster(i, bits.span());
  }
  co_return absl::OkStatus();
}

Task<absl::StatusOr<HostOffset>> BitmapContents::WriteNew(std::span<const std::byte> bytes,
                                                          std::vector<ClusterRun>& written) {
  const Geometry& geometry = metadata_.geometry;
  CO_ASSIGN_OR_RETURN(const AllocatedRun run,
                      co_await allocator_.Allocate(geometry.ClustersFor(bytes.size())));
  written.push_back(run);
  const AlignedBuffer padded(run.count * geometry.cluster_bytes());
  std::memset(padded.data(), 0, padded.size());
  std::copy(bytes.begin(), bytes.end(), padded.data());
  const HostOffset place = geometry.OffsetOf(run.first);
  CO_RETURN_IF_ERROR(co_await metadata_.disk.Write(place, padded.span(), Content::kOther));
  co_return place;
}

Task<absl::Status> BitmapContents::Write(const DirtyBitmap& bits, BitmapDirectoryEntry& entry,
                                         std::vector<ClusterRun>& written) {
  const AlignedBuffer cluster(metadata_.geometry.cluster_bytes());
  // A table has an entry at least, also that of an empty disk.
  std::vector<std::byte> table(std::max<uint64_t>(bits.clusters(), 1) * kTableEntryBytes);
  for (uint64_t i = 0; i < bits.clusters(); ++i) {
    BitmapTableEntry stored = BitmapTableEntry::AllZeroes();
    if (bits.IsAllZeroes(i)) continue;
    // QEMU takes the bits behind the end of the disk for ones, too, and shows them when it grows.
    const bool is_whole = (i + 1) * cluster.size() * 8 <= bits.bits();
    if (is_whole && bits.IsAllOnes(i)) {
      stored = BitmapTableEntry::AllOnes();
    } else {
      bits.StoreCluster(i, cluster.span());
      CO_ASSIGN_OR_RETURN(const HostOffset place, co_await WriteNew(cluster.span(), written));
      stored = BitmapTableEntry::Cluster(place);
    }
    StoreBe64At(table, i, stored.raw());
  }
  CO_ASSIGN_OR_RETURN(entry.table_offset, co_await WriteNew(table, written));
  entry.table_entries = static_cast<uint32_t>(table.size() / kTableEntryBytes);
  co_return absl::OkStatus();
}

Task<absl::Status> BitmapContents::Free(BitmapDirectoryEntry entry) {
  const Geometry& geometry = metadata_.geometry;
  CO_ASSIGN_OR_RETURN(const std::vector<BitmapTableEntry> table, co_await ReadTable(entry));
  for (const BitmapTableEntry& stored : table) {
    const std::optional<HostOffset> cluster = stored.cluster();
    if (!cluster.has_value()) continue;
    CO_RETURN_IF_ERROR(
        co_await allocator_.RemoveReference({geometry.ClusterOf(*cluster), 1}, false));
  }
  const ClusterRun run{geometry.ClusterOf(entry.table_offset),
                       geometry.ClustersFor(entry.table_entries * kTableEntryBytes)};
  co_return co_await allocator_.RemoveReference(run, /*is_l2_table=*/false);
}

}  // namespace ringcow
