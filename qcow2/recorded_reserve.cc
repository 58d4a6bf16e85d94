#include "qcow2/recorded_reserve.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include "engine/status_macros.h"
#include "qcow2/format/extension_place.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/format/header_extension.h"
#include "qcow2/format/header_layout.h"
#include "qcow2/metadata.h"

namespace ringcow {

RecordedReserve::RecordedReserve(Metadata& metadata)
    : metadata_(metadata),
      cache_(metadata.write_back, {.content = Content::kReserveRecord,
                                   .table_bytes = ReserveRecord::kBytes,
                                   .whole_bytes = ReserveRecord::kBytes,
                                   .tables = 2}) {}

bool RecordedReserve::is_on() const {
  return (metadata_.header.autoclear_features & kAutoclearReserveRecord) != 0;
}

bool RecordedReserve::HasPlace() const {
  const uint64_t place = ReserveRecord::PlaceIn(metadata_.geometry.cluster_bytes());
  if (metadata_.header.version < 3 || place == 0) return false;
  const std::span<const std::byte> bytes = metadata_.header_pin.bytes();
  // The header must not be written with a copy of the record's sector, which may be an old one.
  const bool is_written_with_header = metadata_.header_table().dirty_unit > ReserveRecord::kBytes;
  if (place < bytes.size() && is_written_with_header) return false;
  const auto& header = *reinterpret_cast<const HeaderOnDisk*>(bytes.data());
  const uint64_t name = header.backing_file_offset.value();
  const uint64_t name_end = name + header.backing_file_size.value();
  const std::optional<ExtensionPlace> list_end = FindExtension(
      bytes, header.header_length.value(), name != 0 ? name : bytes.size(), kExtensionEnd);
  return list_end.has_value() && list_end->end <= place && name_end <= place;
}

Task<absl::Status> RecordedReserve::Load() {
  if (pin_) co_return absl::OkStatus();
  const HostOffset place(ReserveRecord::PlaceIn(metadata_.geometry.cluster_bytes()));
  CO_ASSIGN_OR_RETURN(pin_, co_await cache_.Get(place));
  co_return absl::OkStatus();
}

void RecordedReserve::Store() {
  EncodeReserveRecord(record_, pin_.bytes());
  cache_.MarkDirty(pin_, 0, ReserveRecord::kBytes);
}

Task<absl::StatusOr<std::optional<ReserveRecord>>> RecordedReserve::Find() {
  if (!is_on() || !HasPlace()) co_return std::nullopt;
  CO_RETURN_IF_ERROR(co_await Load());
  co_return DecodeReserveRecord(pin_.bytes());
}

void RecordedReserve::Keep(const std::vector<ClusterRun>& runs) {
  if (!is_on()) return;
  record_.runs.clear();
  for (const ClusterRun& run : runs) (void)record_.Add(run);
  Store();
}

Task<absl::StatusOr<bool>> RecordedReserve::Add(ClusterRun run) {
  if (!is_on()) co_return co_await Begin(run);
  if (!record_.Add(run)) co_return false;
  Store();
  co_return true;
}

Task<absl::StatusOr<bool>> RecordedReserve::Begin(ClusterRun run) {
  if (!HasPlace() || !(co_await Load()).ok()) co_return true;
  const std::span<const std::byte> found = pin_.bytes();
  const bool is_empty =
      std::ranges::all_of(found, [](std::byte byte) { return byte == std::byte{0}; });
  if (!is_empty && !DecodeReserveRecord(found).has_value()) co_return true;
  // An old record must not come to count.
  const bool is_clean = is_empty && pin_.table().is_settled();
  record_.runs.clear();
  if (!record_.Add(run)) co_return false;
  Store();
  Table& header = metadata_.header_table();
  if (!is_clean) {
    CO_RETURN_IF_ERROR(co_await metadata_.write_back.SetDependency(header, pin_.table()));
  }
  metadata_.header.autoclear_features |= kAutoclearReserveRecord;
  metadata_.StoreHeader();
  co_return true;
}

Task<absl::Status> RecordedReserve::OrderBefore(Table& l2_table, uint64_t l1_index) {
  uint64_t& begin = record_.l1_begin;
  uint64_t& end = record_.l1_end;
  if (l1_index < begin || l1_index >= end) {
    const uint64_t width = is_on() ? end - begin : 0;
    if (begin == end) begin = end = l1_index;
    if (l1_index >= end) end = l1_index + 1 + width;
    if (l1_index < begin) begin = l1_index - std::min(width, l1_index);
    if (is_on()) Store();
  }
  if (pin_ && !pin_.table().is_settled()) {
    co_return co_await metadata_.write_back.SetDependency(l2_table, pin_.table());
  }
  begin_ = begin;
  end_ = end;
  co_return absl::OkStatus();
}

void RecordedReserve::End() {
  if (!is_on()) return;
  std::ranges::fill(pin_.bytes(), std::byte{0});
  cache_.MarkDirty(pin_, 0, ReserveRecord::kBytes);
  metadata_.header.autoclear_features &= ~kAutoclearReserveRecord;
  metadata_.StoreHeader();
}

}  // namespace ringcow
