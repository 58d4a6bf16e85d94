#include "qcow2/repair_snapshots.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
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
#include "qcow2/format/units.h"
#include "qcow2/repair_header.h"
#include "qcow2/repair_refcounts.h"

namespace ringcow {
namespace {

using absl::StrFormat;

uint64_t ShortenExtraData(const SnapshotTable& table, const Findings& findings) {
  for (const SnapshotTable::ShortenedExtraData& entry : table.shortened) {
    findings.Report(
        StrFormat("Discarding too much extra metadata in snapshot table entry %d (%d > %d)",
                  entry.entry, entry.bytes, kMaxSnapshotExtraBytes));
  }
  return table.shortened.size();
}

uint64_t CompleteEntries(SnapshotTable& table, const Header& header, const Findings& findings) {
  uint64_t completed = 0;
  if (header.version < 3) return completed;
  for (size_t i = 0; i < table.snapshots.size(); ++i) {
    Snapshot& snapshot = table.snapshots[i];
    if (!IsIncomplete(snapshot)) continue;
    findings.Report(StrFormat("Repairing snapshot table entry %d is incomplete", i));
    if (!snapshot.virtual_size) snapshot.virtual_size = header.virtual_size;
    snapshot.extra_data.resize(std::max(snapshot.extra_data.size(), kSnapshotExtraBytes));
    ++completed;
  }
  return completed;
}

// The image keeps the first `count` snapshots.
Task<absl::Status> CutTable(Disk& disk, Header& header, uint32_t count, Findings& findings) {
  if (header.nb_snapshots == count) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(co_await SwitchSnapshotTable(disk, header.snapshots_offset, count));
  Findings::Add(findings.result.corruptions_fixed, header.nb_snapshots - count);
  header.nb_snapshots = count;
  co_return absl::OkStatus();
}

// The refcounts of clusters that the new table takes and the old one gives back.
class Rewriting {
 public:
  Rewriting(Disk& disk, Header& header, const Geometry& geometry)
      : disk_(disk), header_(header), geometry_(geometry), findings_(CheckOptions()) {}

  Task<absl::Status> Run(SnapshotTable table);

 private:
  // Writes the table to clusters that nothing refers to, and counts a reference to each.
  Task<absl::StatusOr<ClusterRun>> WriteTable(ImageCheck& check, std::vector<std::byte> bytes);
  // Durably, in new structures where the old ones have no block for them.
  Task<absl::Status> StoreRefcounts(ImageCheck& check, ClusterRun run);
  bool HasBlocks(ImageCheck& check, ClusterRun run) const;
  // Makes the refcounts of what nothing refers to any more 0, and COPIED follow.
  Task<absl::Status> GiveUpOld(const SnapshotTable& table);
  // Whether something could not be read; all else that is found was told before.
  absl::Status CheckReadable() const;

  Disk& disk_;
  Header& header_;
  const Geometry& geometry_;
  Findings findings_;
};

absl::Status Rewriting::CheckReadable() const {
  if (findings_.result.check_errors == 0) return absl::OkStatus();
  const int error = findings_.result.stopped_by;
  return ErrnoStatus(error != 0 ? error : EIO, "Counting references once more");
}

Task<absl::Status> Rewriting::Run(SnapshotTable table) {
  absl::StatusOr<std::vector<std::byte>> bytes = SerializeSnapshotTable(table.snapshots);
  if (!bytes.ok()) co_return ErrnoStatus(EFBIG, bytes.status().message());
  const uint64_t table_bytes = bytes->size();
  ImageCheck check(disk_, header_, geometry_, findings_);
  CO_RETURN_IF_ERROR(co_await check.LoadRefcountTable());
  CO_RETURN_IF_ERROR(co_await check.CountReferences(table));
  CO_RETURN_IF_ERROR(CheckReadable());
  CO_ASSIGN_OR_RETURN(const ClusterRun run, co_await WriteTable(check, *std::move(bytes)));
  CO_RETURN_IF_ERROR(co_await StoreRefcounts(check, run));
  const HostOffset place = geometry_.OffsetOf(run.first);
  CO_RETURN_IF_ERROR(co_await SwitchSnapshotTable(disk_, place, header_.nb_snapshots));
  header_.snapshots_offset = place;
  table.bytes = table_bytes;
  co_return co_await GiveUpOld(table);
}

Task<absl::StatusOr<ClusterRun>> Rewriting::WriteTable(ImageCheck& check,
                                                       std::vector<std::byte> bytes) {
  const uint64_t clusters = geometry_.ClustersFor(bytes.size());
  CO_ASSIGN_OR_RETURN(const ClusterIndex first, TakeUnreferenced(check.counter(), clusters));
  AlignedBuffer padded(clusters * geometry_.cluster_bytes());
  std::ranges::fill(padded.span(), std::byte{0});
  std::ranges::copy(bytes, padded.span().begin());
  CO_RETURN_IF_ERROR(
      co_await disk_.Write(geometry_.OffsetOf(first), padded.span(), Content::kOther));
  CO_RETURN_IF_ERROR(co_await disk_.Fdatasync());
  co_return ClusterRun{first, clusters};
}

bool Rewriting::HasBlocks(ImageCheck& check, ClusterRun run) const {
  const StoredRefcounts& refcounts = check.refcounts();
  if (refcounts.needs_rebuild() || refcounts.has_block_outside()) return false;
  const uint64_t last = geometry_.RefcountTableIndex(run.end() - 1);
  for (uint64_t i = geometry_.RefcountTableIndex(run.first); i <= last; ++i) {
    if (!refcounts.ReadableBlockAt(i).has_value()) return false;
  }
  return true;
}

Task<absl::Status> Rewriting::StoreRefcounts(ImageCheck& check, ClusterRun run) {
  if (HasBlocks(check, run)) {
    co_return co_await SetRefcounts(disk_, check.refcounts(), geometry_, run.first, run.count, 1);
  }
  CO_ASSIGN_OR_RETURN(const RefcountTablePlace place,
                      co_await BuildRefcounts(disk_, check.counter()));
  CO_RETURN_IF_ERROR(co_await SwitchRefcountTable(disk_, place));
  header_.refcount_table_offset = place.offset;
  header_.refcount_table_clusters = place.clusters;
  co_return absl::OkStatus();
}

Task<absl::Status> Rewriting::GiveUpOld(const SnapshotTable& table) {
  findings_.result = {};
  ImageCheck check(disk_, header_, geometry_, findings_);
  CO_RETURN_IF_ERROR(co_await check.LoadRefcountTable());
  CO_RETURN_IF_ERROR(co_await check.CountReferences(table));
  CO_RETURN_IF_ERROR(CheckReadable());
  co_await check.Compare({.fixes_leaks = true});
  CO_RETURN_IF_ERROR(CheckReadable());
  CO_RETURN_IF_ERROR(co_await WriteRefcounts(disk_, check.refcounts(), check.counter()));
  CO_RETURN_IF_ERROR(co_await check.CheckCopied(CopiedRepair::kYes));
  co_return co_await disk_.Fdatasync();
}

}  // namespace

Task<absl::StatusOr<MendedSnapshots>> MendSnapshots(Disk& disk, Header& header,
                                                    Findings& findings) {
  Header allowed = header;
  allowed.nb_snapshots = std::min<uint32_t>(header.nb_snapshots, kMaxSnapshots);
  MendedSnapshots result;
  if (!CheckSnapshotTablePlace(allowed, findings) || allowed.nb_snapshots == 0) co_return result;
  if (allowed.nb_snapshots < header.nb_snapshots) {
    findings.Report(StrFormat("Discarding %d overhanging snapshots",
                              header.nb_snapshots - allowed.nb_snapshots));
  }
  SnapshotTable& table = result.table;
  CO_ASSIGN_OR_RETURN(table, co_await ReadSnapshotTable(disk, allowed, SnapshotTableUse::kRepair));
  result.mended = ShortenExtraData(table, findings);
  if (table.left_out > 0) {
    findings.Report(StrFormat("Discarding %d overhanging snapshots (snapshot table is too big)",
                              table.left_out));
  }
  CO_RETURN_IF_ERROR(
      co_await CutTable(disk, header, allowed.nb_snapshots - table.left_out, findings));
  result.mended += CompleteEntries(table, header, findings);
  if (result.mended == 0) co_return result;
  // Far behind the end of the file there is nothing of it to be kept.
  const uint64_t in_file = disk.size() - std::min(disk.size(), header.snapshots_offset.value());
  if (table.bytes >= in_file + header.cluster_bytes()) table.bytes = in_file;
  co_return result;
}

Task<absl::Status> RewriteSnapshots(Disk& disk, Header& header, const Geometry& geometry,
                                    const MendedSnapshots& snapshots, Findings& findings) {
  if (snapshots.mended == 0) co_return absl::OkStatus();
  Rewriting rewriting(disk, header, geometry);
  const absl::Status rewritten = co_await rewriting.Run(snapshots.table);
  if (rewritten.ok()) {
    Findings::Add(findings.result.corruptions_fixed, snapshots.mended);
  } else {
    findings.Report(StrFormat("ERROR failed to update snapshot table: %s", rewritten.message()));
    findings.Stop(ErrnoOf(rewritten));
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
