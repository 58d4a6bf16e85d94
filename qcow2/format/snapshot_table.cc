#include "qcow2/format/snapshot_table.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
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
static_assert(kSnapshotExtraBytes == kIcount + sizeof(uint64_t));
static_assert(kMinSnapshotExtraBytesV3 == kDiskSize + sizeof(uint64_t));
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
  const auto extra = variable.first(std::min(extra_bytes, kMaxSnapshotExtraBytes));
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
  snapshot.extra_data.assign(extra.begin(), extra.end());
  return snapshot;
}

// Sets a field that the extra data has room for.
void SetExtraField(std::vector<std::byte>& extra, size_t offset, uint64_t value) {
  if (extra.size() >= offset + sizeof(value)) StoreBe<uint64_t>(extra.data() + offset, value);
}

std::vector<std::byte> ExtraDataOf(const Snapshot& snapshot) {
  size_t needed = 0;
  if (snapshot.vm_state_bytes > std::numeric_limits<uint32_t>::max()) needed = kDiskSize;
  if (snapshot.virtual_size.has_value()) needed = kIcount;
  if (snapshot.icount.has_value()) needed = kSnapshotExtraBytes;
  std::vector<std::byte> extra = snapshot.extra_data;
  extra.resize(std::max(extra.size(), needed));
  SetExtraField(extra, kVmStateSizeLarge, snapshot.vm_state_bytes);
  SetExtraField(extra, kDiskSize, snapshot.virtual_size.value_or(0));
  SetExtraField(extra, kIcount, snapshot.icount.value_or(kNoIcount));
  return extra;
}

FixedFields FixedFieldsOf(const Snapshot& snapshot, size_t extra_bytes) {
  // Who knows only the 32-bit field must not take a part of the state for all of it.
  const bool fits = snapshot.vm_state_bytes <= std::numeric_limits<uint32_t>::max();
  return {.l1_table_offset = Be64(snapshot.l1_table_offset.value()),
          .l1_size = Be32(snapshot.l1_entries),
          .id_str_size = Be16(static_cast<uint16_t>(snapshot.id.size())),
          .name_size = Be16(static_cast<uint16_t>(snapshot.name.size())),
          .date_sec = Be32(snapshot.date_seconds),
          .date_nsec = Be32(snapshot.date_nanoseconds),
          .vm_clock_nsec = Be64(snapshot.vm_clock_nanoseconds),
          .vm_state_size = Be32(fits ? static_cast<uint32_t>(snapshot.vm_state_bytes) : 0),
          .extra_data_size = Be32(static_cast<uint32_t>(extra_bytes))};
}

void Append(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

absl::Status AppendEntry(const Snapshot& snapshot, std::vector<std::byte>& out) {
  constexpr size_t kMaxTextBytes = std::numeric_limits<uint16_t>::max();
  const std::vector<std::byte> extra = ExtraDataOf(snapshot);
  if (snapshot.id.size() > kMaxTextBytes || snapshot.name.size() > kMaxTextBytes ||
      extra.size() > kMaxSnapshotExtraBytes) {
    return absl::OutOfRangeError("Snapshot id, name or extra data is too long");
  }
  out.resize(AlignUp(out.size(), 8));
  const FixedFields fixed = FixedFieldsOf(snapshot, extra.size());
  Append(out, std::as_bytes(std::span(&fixed, 1)));
  Append(out, extra);
  Append(out, std::as_bytes(std::span(snapshot.id)));
  Append(out, std::as_bytes(std::span(snapshot.name)));
  return absl::OkStatus();
}

// The number that an id begins with; nothing when there is none, or one so large that none follows.
std::optional<uint64_t> NumberOf(absl::string_view id) {
  const auto end = std::find_if_not(id.begin(), id.end(), absl::ascii_isdigit);
  uint64_t number = 0;
  if (!absl::SimpleAtoi(id.substr(0, end - id.begin()), &number)) return std::nullopt;
  if (number == std::numeric_limits<uint64_t>::max()) return std::nullopt;
  return number;
}

// A repair reads more than will be left.
constexpr uint64_t kMaxRepairableTableBytes = 2 * kMaxSnapshotTableBytes;

// How long a table is by the end of an entry, and how long without extra data that is too much.
struct TableLength {
  uint64_t stored = 0;
  uint64_t allowed = 0;

  void Align() {
    stored = AlignUp(stored, 8);
    allowed = AlignUp(allowed, 8);
  }
  void Add(uint64_t bytes, uint64_t allowed_bytes) {
    stored += bytes;
    allowed += allowed_bytes;
  }
  bool is_too_big() const {
    return allowed > kMaxSnapshotTableBytes || stored > kMaxRepairableTableBytes;
  }
};

// The table ends before the entry that makes it too large, for a repair.
absl::StatusOr<SnapshotTable> TooBig(SnapshotTable& table, uint64_t end, uint32_t nb_snapshots,
                                     SnapshotTableUse use) {
  table.bytes = end;
  table.left_out = nb_snapshots - static_cast<uint32_t>(table.snapshots.size());
  if (use == SnapshotTableUse::kRepair) return std::move(table);
  return absl::OutOfRangeError(absl::StrFormat(
      "Snapshot table is too big\n"
      "You can force-remove all %d overhanging snapshots with qemu-img check -r all",
      table.left_out));
}

}  // namespace

absl::StatusOr<SnapshotTable> ParseSnapshotTable(std::span<const std::byte> prefix,
                                                 uint32_t nb_snapshots, SnapshotTableUse use) {
  const bool repairs = use == SnapshotTableUse::kRepair;
  SnapshotTable table;
  TableLength length;
  for (uint32_t i = 0; i < nb_snapshots; ++i) {
    const uint64_t end_before = length.stored;
    length.Align();
    const uint64_t begin = length.stored;
    length.Add(sizeof(FixedFields), sizeof(FixedFields));
    if (length.is_too_big()) return TooBig(table, end_before, nb_snapshots, use);
    table.bytes = length.stored;
    if (table.bytes > prefix.size()) return table;
    FixedFields fixed;
    std::memcpy(&fixed, prefix.data() + begin, sizeof(fixed));
    const uint32_t extra_bytes = fixed.extra_data_size.value();
    if (extra_bytes > kMaxSnapshotExtraBytes && !repairs) {
      return absl::InvalidArgumentError(
          absl::StrFormat("Too much extra metadata in snapshot table entry %d\n"
                          "You can force-remove this extra metadata with qemu-img check -r all",
                          i));
    }
    const uint64_t text_bytes = fixed.id_str_size.value() + fixed.name_size.value();
    length.Add(uint64_t{extra_bytes} + text_bytes,
               std::min(extra_bytes, kMaxSnapshotExtraBytes) + text_bytes);
    if (length.is_too_big()) return TooBig(table, end_before, nb_snapshots, use);
    table.bytes = length.stored;
    if (table.bytes > prefix.size()) return table;
    if (extra_bytes > kMaxSnapshotExtraBytes) table.shortened.push_back({i, extra_bytes});
    table.snapshots.push_back(
        ParseEntry(fixed, prefix.subspan(begin + sizeof(fixed), extra_bytes + text_bytes)));
  }
  return table;
}

absl::StatusOr<std::vector<std::byte>> SerializeSnapshotTable(std::span<const Snapshot> snapshots) {
  if (snapshots.size() > kMaxSnapshots) return absl::OutOfRangeError("Too many snapshots");
  std::vector<std::byte> table;
  for (const Snapshot& snapshot : snapshots) {
    RETURN_IF_ERROR(AppendEntry(snapshot, table));
    if (table.size() > kMaxSnapshotTableBytes) {
      return absl::OutOfRangeError("Snapshot table is too big");
    }
  }
  return table;
}

absl::Status ValidateSnapshotL1Table(const Snapshot& snapshot, const Geometry& geometry) {
  const uint64_t offset = snapshot.l1_table_offset.value();
  if (snapshot.l1_entries > kMaxL1Entries) {
    return absl::OutOfRangeError("Snapshot L1 table too large");
  }
  const uint64_t bytes = snapshot.l1_entries * kTableEntryBytes;
  if (!geometry.IsClusterAligned(snapshot.l1_table_offset) || offset > kMaxFileOffset - bytes ||
      (offset == 0 && bytes != 0)) {
    return absl::InvalidArgumentError("Snapshot L1 table offset invalid");
  }
  return absl::OkStatus();
}

std::optional<size_t> FindSnapshotByIdOrName(std::span<const Snapshot> snapshots,
                                             absl::string_view id_or_name) {
  const auto found =
      std::find_if(snapshots.begin(), snapshots.end(),
                   [id_or_name](const Snapshot& snapshot) { return snapshot.id == id_or_name; });
  if (found != snapshots.end()) return static_cast<size_t>(found - snapshots.begin());
  return FindSnapshotByName(snapshots, id_or_name);
}

std::optional<size_t> FindSnapshotByName(std::span<const Snapshot> snapshots,
                                         absl::string_view name) {
  const auto found =
      std::find_if(snapshots.begin(), snapshots.end(),
                   [name](const Snapshot& snapshot) { return snapshot.name == name; });
  if (found == snapshots.end()) return std::nullopt;
  return static_cast<size_t>(found - snapshots.begin());
}

std::optional<size_t> FindSnapshot(std::span<const Snapshot> snapshots,
                                   const SnapshotChoice& choice) {
  if (!choice.id.has_value() && !choice.name.has_value()) {
    return FindSnapshotByIdOrName(snapshots, choice.id_or_name);
  }
  for (size_t i = 0; i < snapshots.size(); ++i) {
    const bool has_id = !choice.id.has_value() || snapshots[i].id == *choice.id;
    const bool has_name = !choice.name.has_value() || snapshots[i].name == *choice.name;
    if (has_id && has_name) return i;
  }
  return std::nullopt;
}

std::string NextSnapshotId(std::span<const Snapshot> snapshots) {
  uint64_t largest = 0;
  for (const Snapshot& snapshot : snapshots) {
    largest = std::max(largest, NumberOf(snapshot.id).value_or(0));
  }
  return absl::StrCat(largest + 1);
}

}  // namespace ringcow
