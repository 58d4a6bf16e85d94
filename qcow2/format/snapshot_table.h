#ifndef RINGCOW_QCOW2_FORMAT_SNAPSHOT_TABLE_H_
#define RINGCOW_QCOW2_FORMAT_SNAPSHOT_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/host_offset.h"

namespace ringcow {

// Extra data of one snapshot beyond this is refused, as QEMU does.
inline constexpr uint32_t kMaxSnapshotExtraBytes = 1024;
// Version 3 demands that the extra data has the 64-bit VM state size and the virtual size.
inline constexpr uint32_t kMinSnapshotExtraBytesV3 = 16;

// An internal snapshot: an entry of the snapshot table. In host byte order, and not validated: the
// L1 table may be anywhere and of any size.
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
  uint32_t extra_data_bytes = 0;         // what the entry has of it, the known fields included
  std::vector<std::byte> unknown_extra_data;
};

struct SnapshotTable {
  std::vector<Snapshot> snapshots;
  // From the first entry's first byte to the last entry's last, which is not padded.
  uint64_t bytes = 0;
};

// Parses the table that begins with `prefix`. Where the table may be longer than that, `bytes` is
// more than prefix.size() and says how much is needed to go on (not always to the end), and
// `snapshots` holds the entries that are there in full.
// InvalidArgument when an entry has more than kMaxSnapshotExtraBytes of extra data, OutOfRange when
// the table exceeds kMaxSnapshotTableBytes; nothing else is invalid.
absl::StatusOr<SnapshotTable> ParseSnapshotTable(std::span<const std::byte> prefix,
                                                 uint32_t nb_snapshots);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_SNAPSHOT_TABLE_H_
