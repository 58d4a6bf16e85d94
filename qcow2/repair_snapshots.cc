#include "qcow2/repair_snapshots.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/check.h"
#include "qcow2/check_image.h"
#include "qcow2/check_snapshots.h"
#include "qcow2/format/limits.h"
#include "qcow2/format/snapshot_table.h"
#include "qcow2/format/units.h"
#include "qcow2/repair_header.h"
#include "qcow2/repair_refcounts.h"

namespace ringcow {
namespace {

using absl::StrFormat;

// Says what was left out, and completes entries. How many findings that are.
uint64_t Mend(SnapshotTable& table, const Header& header, const Findings& findings) {
  uint64_t mended = table.shortened.size() + table.left_out;
  for (const SnapshotTable::ShortenedExtraData& entry : table.shortened) {
    findings.Report(
        StrFormat("Discarding too much extra metadata in snapshot table entry %d (%d > %d)",
                  entry.entry, entry.bytes, kMaxSnapshotExtraBytes));
  }
  if (table.left_out != 0) {
    findings.Report(StrFormat("Discarding %d overhanging snapshots (snapshot table is too big)",
                              table.left_out));
  }
  if (header.version < 3) return mended;
  for (size_t i = 0; i < table.snapshots.size(); ++i) {
    Snapshot& snapshot = table.snapshots[i];
    if (!IsIncomplete(snapshot)) continue;
    findings.Report(StrFormat("Repairing snapshot table entry %d is incomplete", i));
    if (!snapshot.virtual_size) snapshot.virtual_size = header.virtual_size;
    snapshot.extra_data.resize(std::max(snapshot.extra_data.size(), kSnapshotExtraBytes));
    ++mended;
  }
  return mended;
}

// A table in a place of its own, with refcounts; where they have no block, the references to it
// are found missing later.
Task<absl::StatusOr<HostOffset>> WriteTable(Disk& disk, const ImageCheck& check,
                                            ReferenceCounter& counter,
                                            std::vector<std::byte> bytes) {
  const Geometry& geometry = counter.geometry();
  const uint64_t clusters = geometry.ClustersFor(bytes.size());
  CO_ASSIGN_OR_RETURN(const ClusterIndex place, TakeUnreferenced(counter, clusters));
  AlignedBuffer padded(clusters * geometry.cluster_bytes());
  std::ranges::fill(padded.span(), std::byte{0});
  std::ranges::copy(bytes, padded.span().begin());
  CO_RETURN_IF_ERROR(co_await disk.Write(geometry.OffsetOf(place), padded.span(), Content::kOther));
  CO_RETURN_IF_ERROR(co_await disk.Fdatasync());
  if (!check.refcounts().needs_rebuild()) {
    CO_RETURN_IF_ERROR(
        co_await SetRefcounts(disk, check.refcounts(), geometry, place, clusters, 1));
  }
  co_return geometry.OffsetOf(place);
}

// What nothing else refers to of the clusters that have [offset, offset + bytes).
Task<absl::Status> GiveUp(Disk& disk, const ImageCheck& check, ReferenceCounter& counter,
                          HostOffset offset, uint64_t bytes) {
  if (bytes == 0 || check.refcounts().needs_rebuild()) co_return absl::OkStatus();
  const Geometry& geometry = counter.geometry();
  const ClusterIndex end = geometry.ClusterOf(offset + (bytes - 1)) + 1;
  ClusterIndex begin = geometry.ClusterOf(offset);
  for (ClusterIndex cluster = begin; cluster <= end; ++cluster) {
    if (cluster < end && counter.counts().Get(cluster) == 1) continue;
    if (begin < cluster) {
      CO_RETURN_IF_ERROR(co_await SetRefcounts(disk, check.refcounts(), geometry, begin,
                                               cluster - begin, /*refcount=*/0));
    }
    begin = cluster + 1;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Replace(Disk& disk, Header& header, const SnapshotTable& table,
                           ImageCheck& check) {
  absl::StatusOr<std::vector<std::byte>> bytes = SerializeSnapshotTable(table.snapshots);
  if (!bytes.ok()) co_return ErrnoStatus(EFBIG, bytes.status().message());
  const HostOffset old = header.snapshots_offset;
  HostOffset place;
  if (!bytes->empty()) {
    CO_ASSIGN_OR_RETURN(place,
                        co_await WriteTable(disk, check, check.counter(), *std::move(bytes)));
  }
  const auto count = static_cast<uint32_t>(table.snapshots.size());
  CO_RETURN_IF_ERROR(co_await SwitchSnapshotTable(disk, place, count));
  header.snapshots_offset = place;
  header.nb_snapshots = count;
  co_return co_await GiveUp(disk, check, check.counter(), old, table.bytes);
}

}  // namespace

Task<absl::Status> RepairSnapshotTable(Disk& disk, Header& header, const Geometry& geometry,
                                       Findings& findings) {
  Header allowed = header;
  allowed.nb_snapshots = std::min<uint32_t>(header.nb_snapshots, kMaxSnapshots);
  if (header.nb_snapshots == 0 || !HasSnapshotTablePlace(allowed)) co_return absl::OkStatus();
  const uint32_t overhanging = header.nb_snapshots - allowed.nb_snapshots;
  CO_ASSIGN_OR_RETURN(SnapshotTable table,
                      co_await ReadSnapshotTable(disk, allowed, SnapshotTableUse::kRepair));

  // Tells where there is room; what is wrong elsewhere is told later.
  Findings elsewhere((CheckOptions()));
  ImageCheck check(disk, allowed, geometry, elsewhere);
  if (overhanging != 0) {
    findings.Report(StrFormat("Discarding %d overhanging snapshots", overhanging));
  }
  const uint64_t mended = overhanging + Mend(table, header, findings);
  if (mended == 0) co_return absl::OkStatus();
  // Behind the end of the file there is nothing of it to be kept.
  const uint64_t in_file = disk.size() - std::min(disk.size(), header.snapshots_offset.value());
  table.bytes = std::min(table.bytes, in_file);
  CO_RETURN_IF_ERROR(co_await check.LoadRefcountTable());
  CO_RETURN_IF_ERROR(co_await check.CountReferences(table));
  if (check.stopped()) co_return absl::OkStatus();
  const absl::Status replaced = co_await Replace(disk, header, table, check);
  if (replaced.ok()) {
    Findings::Add(findings.result.corruptions_fixed, mended);
  } else {
    findings.Report(StrFormat("ERROR failed to update snapshot table: %s", replaced.message()));
    findings.Stop(ErrnoOf(replaced));
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
