#ifndef RINGCOW_QCOW2_FORMAT_SNAPSHOT_TABLE_H_
#define RINGCOW_QCOW2_FORMAT_SNAPSHOT_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/host_offset.h"
#include "qcow2/format/geometry.h"

namespace ringcow {

// Extra data of one snapshot beyond this is refused, as QEMU does.
inline constexpr uint32_t kMaxSnapshotExtraBytes = 1024;
// What QEMU writes: VM state size, virtual size, icount.
inline constexpr size_t kSnapshotExtraBytes = 24;
// Version 3 demands that the extra data has the 64-bit VM state size and the virtual size.
inline constexpr uint32_t kMinSnapshotExtraBytesV3 = 16;

// QEMU's tools cannot name longer ones; the format could.
inline constexpr size_t kMaxSnapshotIdBytes = 127;
inline constexpr size_t kMaxSnapshotNameBytes = 255;

// An internal snapshot: an entry of the snapshot table. In host byte order, and not validated: the
// L1 table may be anywhere and of any size (see ValidateSnapshotL1Table), id and name may hold any
// bytes, and need not be unique.
struct Snapshot {
  HostOffset l1_table_offset;
  uint32_t l1_entries = 0;  // "l1_size" in the specification
  std::string id;
  std::string name;
  uint32_t date_seconds = 0;  // since the epoch
  uint32_t date_nanoseconds = 0;
  uint64_t vm_clock_nanoseconds = 0;
  uint64_t vm_state_bytes = 0;
  std::optional<uint64_t> virtual_size;  // bytes; missing where the extra data is too short for it
  std::optional<uint64_t> icount;        // instructions executed, of a VM that counts them
  // As stored, the known fields included, so that what no version knows as yet is kept. The three
  // fields above count for what they are in it. A new snapshot has room for all of them.
  std::vector<std::byte> extra_data = std::vector<std::byte>(kSnapshotExtraBytes);
};

struct SnapshotTable {
  std::vector<Snapshot> snapshots;
  // From the first entry's first byte to the last entry's last, which is not padded.
  uint64_t bytes = 0;

  // What a parse for a repair left out.
  struct ShortenedExtraData {
    uint32_t entry;
    uint32_t bytes;  // as many as there were; kMaxSnapshotExtraBytes are left
  };
  std::vector<ShortenedExtraData> shortened;
  uint32_t left_out = 0;  // entries at the end, with which the table would be too large
};

enum class SnapshotTableUse : uint8_t {
  kRead,
  kRepair,  // nothing is invalid: what is too much is left out
};

// Parses the table that begins with `prefix`. Where the table may be longer than that, `bytes` is
// more than prefix.size() and says how much is needed to go on (not always to the end), and
// `snapshots` holds the entries that are there in full.
// InvalidArgument when an entry has more than kMaxSnapshotExtraBytes of extra data, OutOfRange when
// the table exceeds kMaxSnapshotTableBytes, both with a second line that tells what helps; nothing
// else is invalid. A repair reads twice as much, of which extra data that is too much does not
// count.
absl::StatusOr<SnapshotTable> ParseSnapshotTable(std::span<const std::byte> prefix,
                                                 uint32_t nb_snapshots,
                                                 SnapshotTableUse use = SnapshotTableUse::kRead);

// The table as bytes, its last entry not padded; ParseSnapshotTable gives the same snapshots again.
// Extra data is written as long as it was, longer only where a field that is set needs the room:
// so an entry of version 2 becomes one of version 3 when its virtual_size is set. OutOfRange when
// there are more than kMaxSnapshots, or when the table or an id or name is too long.
absl::StatusOr<std::vector<std::byte>> SerializeSnapshotTable(std::span<const Snapshot> snapshots);

// InvalidArgument or OutOfRange, in QEMU's words, when its L1 table is not aligned, is on the
// header, is larger than kMaxL1Bytes, or overflows a file offset. It may lie beyond the file's end.
absl::Status ValidateSnapshotL1Table(const Snapshot& snapshot, const Geometry& geometry);

// The index of the snapshot with this id; of the first with this name when no id is like it. This
// is how QEMU finds what to apply. What to delete it finds by name alone.
std::optional<size_t> FindSnapshotByIdOrName(std::span<const Snapshot> snapshots,
                                             absl::string_view id_or_name);
std::optional<size_t> FindSnapshotByName(std::span<const Snapshot> snapshots,
                                         absl::string_view name);

// How a user names a snapshot: by one word that is its id or else its name, or by what is set of
// these two.
struct SnapshotChoice {
  std::string id_or_name;
  std::optional<std::string> id = std::nullopt;
  std::optional<std::string> name = std::nullopt;
};
std::optional<size_t> FindSnapshot(std::span<const Snapshot> snapshots,
                                   const SnapshotChoice& choice);

// The id for a new snapshot: one more than the largest number that an id begins with.
std::string NextSnapshotId(std::span<const Snapshot> snapshots);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_SNAPSHOT_TABLE_H_
