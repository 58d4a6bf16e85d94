#include "qcow2/metadata.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/corruption.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/format/header_layout.h"

namespace ringcow {
namespace {

// QEMU's bounds for L2 tables; refcounts of as much data take a quarter of that.
constexpr uint64_t kMaxDefaultL2CacheBytes = uint64_t{32} << 20;
constexpr uint64_t kMaxDefaultRefcountCacheBytes = uint64_t{8} << 20;

// Tables that are always in memory are read in larger pieces; 64 sectors are what a Table tracks.
constexpr uint64_t kMaxResidentSlice = 32768;

uint32_t Slice(const Geometry& geometry, uint64_t bytes) {
  return static_cast<uint32_t>(
      std::min(geometry.cluster_bytes(), std::max(std::bit_floor(bytes), kSectorBytes)));
}

TableCacheOptions CacheOf(Content content, const Geometry& geometry, uint64_t slice_bytes,
                          uint64_t bytes, uint64_t read_bytes = 0) {
  const uint32_t slice = Slice(geometry, slice_bytes);
  return {.content = content,
          .table_bytes = slice,
          .whole_bytes = geometry.cluster_bytes(),
          .tables = std::max<uint64_t>(bytes / slice, 2),
          .read_bytes = std::bit_floor(read_bytes)};
}

uint64_t L2CacheBytes(const Geometry& geometry, const MetadataOptions& options) {
  if (options.l2_cache_bytes != 0) return options.l2_cache_bytes;
  return std::min(geometry.l1_entries() * geometry.cluster_bytes(), kMaxDefaultL2CacheBytes);
}

uint64_t RefcountCacheBytes(const Geometry& geometry, const MetadataOptions& options) {
  if (options.refcount_cache_bytes != 0) return options.refcount_cache_bytes;
  const uint64_t blocks = geometry.guest_clusters() / geometry.refcount_block_entries() + 1;
  return std::min(blocks * geometry.cluster_bytes(), kMaxDefaultRefcountCacheBytes);
}

template <typename BigEndianField, typename Value>
void Store(BigEndianField& field, Value value) {
  field = BigEndianField(value);
}

}  // namespace

absl::Status Named(const Disk& disk, const absl::Status& status) {
  if (status.ok() || HasErrno(status)) return status;
  return absl::Status(status.code(), absl::StrCat("'", disk.name(), "': ", status.message()));
}

Metadata::Metadata(Disk& disk, const Header& header, const Geometry& geometry,
                   const MetadataOptions& options, Disk* data_file)
    : disk(disk),
      data_disk(data_file != nullptr ? *data_file : disk),
      header(header),
      geometry(geometry),
      write_back(disk, options.write_back, data_file),
      header_cache(write_back, CacheOf(Content::kHeader, geometry, 4096, 0)),
      // Also of a new image, which has no L1 table yet: tables are made one by one beyond this.
      l1_cache(write_back, CacheOf(Content::kL1, geometry, kMaxResidentSlice,
                                   std::max(header.l1_table_bytes(),
                                            geometry.l1_entries() * kTableEntryBytes))),
      refcount_table_cache(write_back, CacheOf(Content::kRefcountTable, geometry, kMaxResidentSlice,
                                               header.refcount_table_bytes())),
      refcount_block_cache(
          write_back, CacheOf(Content::kRefcountBlock, geometry, options.cache_slice_bytes,
                              RefcountCacheBytes(geometry, options), options.cache_read_bytes)),
      l2_cache(write_back, CacheOf(Content::kL2, geometry, options.cache_slice_bytes,
                                   L2CacheBytes(geometry, options), options.cache_read_bytes)),
      clusters_end(AlignUp(disk.size(), geometry.cluster_bytes())),
      events(options.events),
      guard(*this, options.overlap_check),
      recorded_reserve(*this),
      read_only_(options.read_only),
      corruption_(options.corruption) {}

Task<absl::Status> Metadata::Load() {
  CO_ASSIGN_OR_RETURN(header_pin, co_await header_cache.Get(HostOffset(0)));
  CO_ASSIGN_OR_RETURN(
      l1, co_await ResidentTable::Load(l1_cache, header.l1_table_offset, header.l1_entries));
  // A refcount table that would be the header counts nothing, and is never written.
  const bool has_refcounts = header.refcount_table_offset.value() != 0;
  CO_ASSIGN_OR_RETURN(refcount_table, co_await ResidentTable::Load(
                                          refcount_table_cache, header.refcount_table_offset,
                                          has_refcounts ? header.refcount_table_entries() : 0));
  co_return absl::OkStatus();
}

void Metadata::StoreHeader() {
  auto& stored = *reinterpret_cast<HeaderOnDisk*>(header_pin.bytes().data());
  Store(stored.size, header.virtual_size);
  Store(stored.l1_size, header.l1_entries);
  Store(stored.l1_table_offset, header.l1_table_offset.value());
  Store(stored.refcount_table_offset, header.refcount_table_offset.value());
  Store(stored.refcount_table_clusters, header.refcount_table_clusters);
  Store(stored.nb_snapshots, header.nb_snapshots);
  Store(stored.snapshots_offset, header.snapshots_offset.value());
  size_t length = kHeaderLengthV2;
  if (header.version >= 3) {
    Store(stored.incompatible_features, header.incompatible_features);
    Store(stored.compatible_features, header.compatible_features);
    Store(stored.autoclear_features, header.autoclear_features);
    length = kMinHeaderLengthV3;
  }
  header_cache.MarkDirty(header_pin, 0, length);
}

void Metadata::TellCorruption(absl::string_view what, CorruptionListener::Image image) {
  const bool was_told = std::exchange(has_told_corruption_, true);
  if (corruption_ == nullptr || (was_told && image == CorruptionListener::Image::kGoesOn)) return;
  corruption_->Met(what, image);
}

Task<absl::Status> Metadata::MarkCorrupt(absl::Status why) {
  co_await write_back.Stop(std::move(why));
  if (header.version < 3 || header.corrupt()) co_return absl::OkStatus();
  header.incompatible_features |= kIncompatibleCorrupt;
  // This field of the header that is on the disk: in memory others may be ahead of it.
  std::array<std::byte, sizeof(uint64_t)> field = {};
  StoreBe<uint64_t>(field.data(), header.incompatible_features);
  CO_RETURN_IF_ERROR(co_await disk.Write(HostOffset(offsetof(HeaderOnDisk, incompatible_features)),
                                         field, Content::kHeader));
  co_return co_await disk.Fdatasync();
}

absl::Status Metadata::CheckMisplaced(HostOffset begin, uint64_t length,
                                      absl::string_view what) const {
  const char* where = "behind the end of the file";
  const char* overlaps = nullptr;  // in QEMU's words
  if (begin.value() < geometry.cluster_bytes()) {
    where = "in the header's cluster";
    overlaps = "qcow2_header";
  } else if (begin < clusters_end && length <= kMaxFileOffset) {
    const bool is_l1 = l1.Overlaps(begin, begin + length);
    where = is_l1 ? "in the L1 table" : "in the refcount table";
    overlaps = is_l1 ? "active L1 table" : "refcount table";
  }
  if (overlaps != nullptr && read_only_) return absl::OkStatus();
  absl::Status status = absl::InvalidArgumentError(absl::StrFormat(
      "'%s': %s at host offset %#x lies %s", disk.name(), what, begin.value(), where));
  if (overlaps == nullptr) return BehindFile(std::move(status));
  return WithOverlap(std::move(status), overlaps);
}

}  // namespace ringcow
