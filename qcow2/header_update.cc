#include "qcow2/header_update.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/extension_place.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/format/header_extension.h"
#include "qcow2/format/header_layout.h"
#include "qcow2/format/reserve_record.h"
#include "qcow2/format/units.h"
#include "qcow2/metadata.h"

namespace ringcow {
namespace {

constexpr uint64_t kMarkBytes = 8;  // an extension's magic number and length

HeaderOnDisk FieldsOf(std::span<const std::byte> cluster) {
  HeaderOnDisk fields;
  std::memcpy(&fields, cluster.data(), sizeof(fields));
  return fields;
}

uint64_t HeaderLength(const HeaderOnDisk& fields) {
  return fields.version.value() == 2 ? kHeaderLengthV2 : fields.header_length.value();
}

// Of the sectors that say something.
uint64_t EndOfContent(std::span<const std::byte> cluster) {
  const HeaderOnDisk fields = FieldsOf(cluster);
  uint64_t end = cluster.size();
  if (const uint64_t name = fields.backing_file_offset.value(); name != 0) {
    end = name + fields.backing_file_size.value();
  } else if (const std::optional<ExtensionPlace> mark =
                 FindExtension(cluster, HeaderLength(fields), cluster.size(), kExtensionEnd)) {
    end = mark->payload;
  }
  return AlignUp(end, kSectorBytes);
}

// A header that lies in two places: its fields in the first sector, the rest from `place` on.
// In between is an extension that nobody reads, the names of features that are not set.
struct SplitHeader {
  std::vector<std::byte> sector;
  std::vector<std::byte> rest;
};

std::optional<SplitHeader> Split(const Header& header, std::span<const std::byte> serialized,
                                 uint64_t place) {
  HeaderOnDisk fields = FieldsOf(serialized);
  const uint64_t length = HeaderLength(fields);
  if (length + kMarkBytes > kSectorBytes || place > serialized.size()) return std::nullopt;
  SplitHeader split;
  AppendHeaderExtensions(header.extensions, /*with_feature_names=*/false, split.rest);
  if (!header.backing_file.empty()) {
    fields.backing_file_offset = Be64(place + split.rest.size());
    const auto name = std::as_bytes(std::span(header.backing_file));
    split.rest.insert(split.rest.end(), name.begin(), name.end());
  }
  split.rest.resize(AlignUp(split.rest.size(), kSectorBytes));
  if (split.rest.size() > serialized.size() - place) return std::nullopt;

  const auto begin = serialized.first(length);
  split.sector.assign(begin.begin(), begin.end());
  split.sector.resize(kSectorBytes);
  std::memcpy(split.sector.data(), &fields, std::min<size_t>(length, sizeof(fields)));
  StoreBe64At(std::span(split.sector).subspan(length), 0,
              uint64_t{kExtensionFeatureNameTable} << 32 | (place - length - kMarkBytes));
  return split;
}

Task<absl::Status> WriteDurably(Disk& disk, uint64_t at, std::span<const std::byte> bytes) {
  CO_RETURN_IF_ERROR(co_await disk.Write(HostOffset(at), bytes, Content::kHeader));
  co_return co_await disk.Fdatasync();
}

// The sectors in which two headers differ: the first one, and behind the last one.
std::pair<uint64_t, uint64_t> Difference(std::span<const std::byte> a,
                                         std::span<const std::byte> b) {
  uint64_t first = a.size();
  uint64_t end = 0;
  for (uint64_t at = 0; at < a.size(); at += kSectorBytes) {
    if (std::ranges::equal(a.subspan(at, kSectorBytes), b.subspan(at, kSectorBytes))) continue;
    first = std::min(first, at);
    end = at + kSectorBytes;
  }
  return {first, end};
}

// What a crash has left may go, and leaks then: the rest of the cluster is needed.
Task<absl::Status> DropReserveRecord(Disk& disk, std::span<std::byte> header_cluster) {
  const uint64_t place = ReserveRecord::PlaceIn(header_cluster.size());
  const std::span<std::byte> sector = header_cluster.subspan(place);
  if (!DecodeReserveRecord(sector).has_value()) co_return absl::OkStatus();
  std::ranges::fill(sector, std::byte{0});
  co_return co_await WriteDurably(disk, place, sector);
}

}  // namespace

Task<absl::Status> UpdateHeader(Disk& disk, Header changed) {
  const AlignedBuffer old(changed.cluster_bytes());
  CO_RETURN_IF_ERROR(co_await disk.Read(HostOffset(0), old.span(), Content::kHeader));
  CO_RETURN_IF_ERROR(co_await DropReserveRecord(disk, old.span()));
  changed.autoclear_features &= ~kAutoclearReserveRecord;
  absl::StatusOr<std::vector<std::byte>> serialized = SerializeHeader(changed);
  CO_RETURN_IF_ERROR(Named(disk, serialized.status()));
  const std::span<const std::byte> next(*serialized);
  const auto [first, end] = Difference(old.span(), next);
  if (first >= end) co_return absl::OkStatus();
  if (end - first == kSectorBytes) {
    co_return co_await WriteDurably(disk, first, next.subspan(first, kSectorBytes));
  }
  const uint64_t place = std::max(EndOfContent(old.span()), EndOfContent(next));
  const std::optional<SplitHeader> split = Split(changed, next, place);
  if (!split.has_value()) {
    co_return Named(disk, absl::OutOfRangeError("The header's cluster has no room to change it"));
  }
  CO_RETURN_IF_ERROR(co_await WriteDurably(disk, place, split->rest));
  CO_RETURN_IF_ERROR(co_await WriteDurably(disk, 0, split->sector));
  CO_RETURN_IF_ERROR(
      co_await WriteDurably(disk, kSectorBytes, next.subspan(kSectorBytes, place - kSectorBytes)));
  CO_RETURN_IF_ERROR(co_await WriteDurably(disk, 0, next.first(kSectorBytes)));
  co_return co_await WriteDurably(disk, place, next.subspan(place, split->rest.size()));
}

}  // namespace ringcow
