#include "qcow2/format/snapshot_table.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/limits.h"
#include "qcow2/format/units.h"

namespace ringcow {
namespace {

struct FixedFields {
  Be64 l1_table_offset;
  Be32 l1_size;
  Be16 id_str_size;
  Be16 name_size;
  Be32 date_sec;
  Be32 date_nsec;
  Be64 vm_clock_nsec;
  Be32 vm_state_size;
  Be32 extra_data_size;
};
static_assert(sizeof(FixedFields) == kSnapshotHeaderBytes);

// The extra data begins with these; an entry may have any number of its bytes.
constexpr size_t kVmStateSizeLarge = 0;
constexpr size_t kDiskSize = 8;
constexpr size_t kIcount = 16;
constexpr size_t kKnownExtraBytes = 24;
constexpr uint64_t kNoIcount = ~uint64_t{0};

std::optional<uint64_t> ExtraField(std::span<const std::byte> extra, size_t offset) {
  if (extra.size() < offset + sizeof(uint64_t)) return std::nullopt;
  return LoadBe<uint64_t>(extra.data() + offset);
}

std::string TextOf(std::span<const std::byte> bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// `variable` is what follows the fixed fields: extra data, id, name.
Snapshot ParseEntry(const FixedFields& fixed, std::span<const std::byte> variable) {
  const uint32_t extra_bytes = fixed.extra_data_size.value();
  const uint16_t id_bytes = fixed.id_str_size.value();
  const auto extra = variable.first(extra_bytes);
  Snapshot snapshot;
  snapshot.l1_table_offset = HostOffset(fixed.l1_table_offset.value());
  snapshot.l1_entries = fixed.l1_size.value();
  snapshot.id = TextOf(variable.subspan(extra_bytes, id_bytes));
  snapshot.name = TextOf(variable.subspan(extra_bytes + id_bytes, fixed.name_size.value()));
  snapshot.date_seconds = fixed.date_sec.value();
  snapshot.date_nanoseconds = fixed.date_nsec.value();
  snapshot.vm_clock_nanoseconds = fixed.vm_clock_nsec.value();
  snapshot.vm_state_bytes =
      ExtraField(extra, kVmStateSizeLarge).value_or(fixed.vm_state_size.value());
  snapshot.virtual_size = ExtraField(extra, kDiskSize);
  snapshot.icount = ExtraField(extra, kIcount);
  if (snapshot.icount == kNoIcount) snapshot.icount.reset();
  snapshot.extra_data_bytes = extra_bytes;
  const auto unknown = extra.subspan(std::min<size_t>(extra.size(), kKnownExtraBytes));
  snapshot.unknown_extra_data.assign(unknown.begin(), unknown.end());
  return snapshot;
}

}  // namespace

absl::StatusOr<SnapshotTable> ParseSnapshotTable(std::span<const std::byte> prefix,
                                                 uint32_t nb_snapshots) {
  SnapshotTable table;
  for (uint32_t i = 0; i < nb_snapshots; ++i) {
    const uint64_t begin = AlignUp(table.bytes, 8);
    table.bytes = begin + sizeof(FixedFields);
    if (table.bytes > kMaxSnapshotTableBytes) break;
    if (table.bytes > prefix.size()) return table;
    FixedFields fixed;
    std::memcpy(&fixed, prefix.data() + begin, sizeof(fixed));
    if (fixed.extra_data_size.value() > kMaxSnapshotExtraBytes) {
      return absl::InvalidArgumentError(
          absl::StrFormat("Too much extra metadata in snapshot table entry %d", i));
    }
    const uint64_t variable_bytes = uint64_t{fixed.extra_data_size.value()} +
                                    fixed.id_str_size.value() + fixed.name_size.value();
    table.bytes += variable_bytes;
    if (table.bytes > kMaxSnapshotTableBytes) break;
    if (table.bytes > prefix.size()) return table;
    table.snapshots.push_back(
        ParseEntry(fixed, prefix.subspan(begin + sizeof(fixed), variable_bytes)));
  }
  if (table.bytes > kMaxSnapshotTableBytes) {
    return absl::OutOfRangeError("Snapshot table is too big");
  }
  return table;
}

}  // namespace ringcow
