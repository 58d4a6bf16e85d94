#include "qcow2/read_snapshots.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "engine/status_macros.h"
#include "qcow2/format/limits.h"

namespace ringcow {

// Reads as much as the table turns out to need; the parser bounds it. At least twice as much each
// time, for an entry tells no more than its own length. Behind the end of the file there are
// zeroes.
Task<absl::StatusOr<std::vector<Snapshot>>> ReadSnapshots(Disk& disk, const Header& header) {
  std::vector<std::byte> bytes(header.nb_snapshots * kSnapshotHeaderBytes);
  while (true) {
    CO_RETURN_IF_ERROR(co_await disk.Read(header.snapshots_offset, bytes, Content::kOther));
    CO_ASSIGN_OR_RETURN(SnapshotTable table, ParseSnapshotTable(bytes, header.nb_snapshots));
    if (table.bytes <= bytes.size()) co_return std::move(table.snapshots);
    bytes.resize(
        std::max(table.bytes, std::min(uint64_t{2} * bytes.size(), kMaxSnapshotTableBytes)));
  }
}

}  // namespace ringcow
