#include "qcow2/check_snapshots.h"

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/format/limits.h"
#include "qcow2/format/units.h"

namespace ringcow {
namespace {

using absl::StrFormat;

constexpr uint64_t kFirstReadBytes = uint64_t{64} << 10;

void ReportIncomplete(const SnapshotTable& table, Findings& findings) {
  for (size_t i = 0; i < table.snapshots.size(); ++i) {
    if (!IsIncomplete(table.snapshots[i])) continue;
    findings.Corruption(StrFormat("ERROR snapshot table entry %d is incomplete", i));
  }
}

}  // namespace

bool CheckSnapshotTablePlace(const Header& header, Findings& findings) {
  if (header.nb_snapshots > kMaxSnapshots) {
    findings.Stop(EFBIG, StrFormat("ERROR snapshot table too large\n"
                                   "You can force-remove all %d overhanging snapshots with "
                                   "qemu-img check -r all",
                                   header.nb_snapshots - kMaxSnapshots));
    return false;
  }
  const uint64_t least_bytes = header.nb_snapshots * kSnapshotHeaderBytes;
  if (header.snapshots_offset.value() > kMaxFileOffset - least_bytes ||
      !IsAligned(header.snapshots_offset, header.cluster_bytes())) {
    findings.Stop(EINVAL, "ERROR snapshot table offset invalid");
    return false;
  }
  return true;
}

Task<absl::StatusOr<SnapshotTable>> ReadSnapshotTable(Disk& disk, const Header& header,
                                                      SnapshotTableUse use) {
  // How long the table is shows only in its entries. Beyond the end of the file it reads as zeroes,
  // as entries without content.
  uint64_t bytes = kFirstReadBytes;
  while (true) {
    AlignedBuffer prefix(bytes);
    CO_RETURN_IF_ERROR(co_await disk.Read(header.snapshots_offset, prefix.span(), Content::kOther));
    CO_ASSIGN_OR_RETURN(SnapshotTable table,
                        ParseSnapshotTable(prefix.span(), header.nb_snapshots, use));
    if (table.bytes <= bytes) co_return table;
    bytes = std::max(2 * bytes, AlignUp(table.bytes, kFirstReadBytes));
  }
}

Task<absl::StatusOr<SnapshotTable>> CheckSnapshotTable(Disk& disk, const Header& header,
                                                       Findings& findings) {
  if (!CheckSnapshotTablePlace(header, findings) || header.nb_snapshots == 0) {
    co_return SnapshotTable();
  }
  absl::StatusOr<SnapshotTable> table =
      co_await ReadSnapshotTable(disk, header, SnapshotTableUse::kRead);
  if (table.ok()) {
    if (header.version >= 3) ReportIncomplete(*table, findings);
    co_return table;
  }
  if (HasErrno(table.status())) co_return table.status();
  findings.Stop(EFBIG,
                StrFormat("ERROR failed to read the snapshot table: %s", table.status().message()));
  co_return SnapshotTable();
}

std::optional<WeightedRange> SnapshotL1Table(const Snapshot& snapshot, const Geometry& geometry) {
  const uint64_t bytes = uint64_t{snapshot.l1_entries} * kTableEntryBytes;
  const uint64_t begin = snapshot.l1_table_offset.value();
  if (!geometry.IsClusterAligned(snapshot.l1_table_offset) || bytes > kMaxL1Bytes ||
      (bytes != 0 && begin > kMaxFileOffset - bytes)) {
    return std::nullopt;
  }
  return WeightedRange{.begin = begin, .end = begin + bytes};
}

void ReportBadSnapshots(const SnapshotTable& table, const Geometry& geometry, bool external_data,
                        Findings& findings) {
  if (external_data && !table.snapshots.empty()) {
    findings.Corruption(
        StrFormat("ERROR %d snapshots in image with data file", table.snapshots.size()));
  }
  for (const Snapshot& snapshot : table.snapshots) {
    if (SnapshotL1Table(snapshot, geometry)) continue;
    // QEMU's strings end at a zero byte.
    const std::string who =
        StrFormat("ERROR snapshot %s (%s)", snapshot.id.c_str(), snapshot.name.c_str());
    if (!geometry.IsClusterAligned(snapshot.l1_table_offset)) {
      findings.Corruption(
          StrFormat("%s l1_offset=%#x: L1 table is not cluster aligned; snapshot "
                    "table entry corrupted",
                    who, snapshot.l1_table_offset.value()));
    } else if (snapshot.l1_entries > kMaxL1Entries) {
      findings.Corruption(
          StrFormat("%s l1_size=%#x: L1 table is too large; snapshot table entry "
                    "corrupted",
                    who, snapshot.l1_entries));
    } else {
      // What QEMU finds: it cannot read there.
      findings.Corruption(
          StrFormat("ERROR: counting reference for region exceeding the end of the file by one "
                    "cluster or more: offset %#x size %#x",
                    snapshot.l1_table_offset.value(), snapshot.l1_entries * kTableEntryBytes));
      findings.Report("ERROR: I/O error in check_refcounts_l1");
      return findings.Stop(EIO);
    }
  }
}

}  // namespace ringcow
