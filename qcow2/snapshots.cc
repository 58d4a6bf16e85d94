#include "qcow2/snapshots.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/active_l1.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/leak.h"
#include "qcow2/read_snapshots.h"

namespace ringcow {
namespace {

std::vector<L1Entry> WithoutCopied(std::vector<L1Entry> l1) {
  for (L1Entry& entry : l1) entry = entry.WithCopied(false);
  return l1;
}

// An L1 table that cannot be is an errno to who wants to write.
absl::Status WithErrno(const absl::Status& status) {
  if (HasErrno(status)) return status;
  return ErrnoStatus(absl::IsOutOfRange(status) ? EFBIG : EINVAL, status.message());
}

}  // namespace

Task<absl::Status> Snapshots::Load() {
  if (metadata_.header.nb_snapshots == 0) co_return absl::OkStatus();
  absl::StatusOr<std::vector<Snapshot>> snapshots =
      co_await ReadSnapshots(metadata_.disk, metadata_.header);
  CO_RETURN_IF_ERROR(Named(metadata_.disk, snapshots.status()));
  CO_ASSIGN_OR_RETURN(const std::vector<std::byte> table, SerializeSnapshotTable(*snapshots));
  table_bytes_ = table.size();
  absl::StatusOr<HostOffsets> l2_tables = co_await FindL2Tables(*snapshots);
  snapshots_ = *std::move(snapshots);
  UpdateGuard(l2_tables.value_or(HostOffsets()));
  if (!l2_tables.ok()) metadata_.guard.DoNotKnowSnapshotL2Tables(WithErrno(l2_tables.status()));
  co_return absl::OkStatus();
}

Task<absl::StatusOr<Snapshots::HostOffsets>> Snapshots::FindL2Tables(
    const std::vector<Snapshot>& snapshots) {
  HostOffsets tables;
  if (!metadata_.guard.KnowsSnapshotL2Tables()) co_return tables;
  for (const Snapshot& snapshot : snapshots) {
    CO_ASSIGN_OR_RETURN(const std::vector<L1Entry> l1, co_await ReadL1(snapshot));
    for (const L1Entry& entry : l1) {
      if (const std::optional<HostOffset> table = entry.l2_table()) tables.insert(table->value());
    }
  }
  co_return tables;
}

void Snapshots::UpdateGuard(HostOffsets l2_tables) {
  metadata_.guard.SetSnapshotL2Tables(std::move(l2_tables));
  const HostOffset table = metadata_.header.snapshots_offset;
  metadata_.guard.SetSnapshotTable({table, table + table_bytes_});
  std::vector<OverlapGuard::Range> l1_tables;
  for (const Snapshot& snapshot : snapshots_) {
    if (!ValidateSnapshotL1Table(snapshot, metadata_.geometry).ok()) continue;
    const HostOffset begin = snapshot.l1_table_offset;
    l1_tables.push_back({begin, begin + snapshot.l1_entries * kTableEntryBytes});
  }
  metadata_.guard.SetSnapshotL1Tables(std::move(l1_tables));
}

absl::Status Snapshots::CheckIndex(size_t index) const {
  if (index < snapshots_.size()) return absl::OkStatus();
  return absl::NotFoundError(absl::StrFormat("'%s' has %d snapshots, none with index %d",
                                             metadata_.disk.name(), snapshots_.size(), index));
}

Task<absl::StatusOr<std::vector<L1Entry>>> Snapshots::ReadL1(const Snapshot& snapshot) {
  CO_RETURN_IF_ERROR(Named(metadata_.disk, ValidateSnapshotL1Table(snapshot, metadata_.geometry)));
  const uint64_t bytes = snapshot.l1_entries * kTableEntryBytes;
  if (bytes > 0) {
    CO_RETURN_IF_ERROR(metadata_.CheckPlace(snapshot.l1_table_offset, bytes, "snapshot L1 table"));
  }
  const AlignedBuffer table(bytes);
  CO_RETURN_IF_ERROR(
      co_await metadata_.disk.Read(snapshot.l1_table_offset, table.span(), Content::kL1));
  std::vector<L1Entry> l1;
  for (uint64_t i = 0; i < snapshot.l1_entries; ++i) {
    l1.push_back(L1Entry::FromRaw(LoadBe64At(table.span(), i)));
    CO_RETURN_IF_ERROR(Named(metadata_.disk, l1.back().Validate(metadata_.geometry, i)));
  }
  co_return l1;
}

Task<absl::Status> Snapshots::Create(Snapshot snapshot) {
  std::vector<Snapshot> snapshots = snapshots_;
  if (snapshot.id.empty()) snapshot.id = NextSnapshotId(snapshots);
  snapshot.virtual_size = metadata_.geometry.virtual_size();
  snapshot.l1_entries = static_cast<uint32_t>(metadata_.l1.entries());
  snapshots.push_back(snapshot);
  if (const absl::Status table = SerializeSnapshotTable(snapshots).status(); !table.ok()) {
    co_return ErrnoStatus(EFBIG, table.message());
  }

  CO_RETURN_IF_ERROR(co_await Flush());
  const std::vector<L1Entry> l1 = ActiveL1(metadata_);
  CO_RETURN_IF_ERROR(co_await tree_.AddReferences(l1));
  absl::StatusOr<ClusterRun> copy = co_await WriteL1Copy(l1);
  absl::Status status = copy.status();
  if (status.ok()) status = co_await Flush();
  // From here on the refcounts are durable, and COPIED has to go.
  if (status.ok()) status = co_await ClearCopied();
  if (status.ok()) status = co_await Flush();
  if (status.ok()) {
    snapshots.back().l1_table_offset = metadata_.geometry.OffsetOf(copy->first);
    co_return co_await SwitchTo(std::move(snapshots));
  }
  if (copy.ok()) status.Update(co_await allocator_.Free(*copy));
  status.Update(co_await tree_.RemoveReferences(l1));
  status.Update(co_await RefreshCopied());
  co_return status;
}

Task<absl::Status> Snapshots::Delete(size_t index) {
  CO_RETURN_IF_ERROR(CheckIndex(index));
  CO_RETURN_IF_ERROR(co_await Flush());
  CO_ASSIGN_OR_RETURN(const std::vector<L1Entry> l1, co_await ReadL1(index));
  std::vector<Snapshot> snapshots = snapshots_;
  const Snapshot deleted = snapshots[index];
  snapshots.erase(snapshots.begin() + static_cast<ptrdiff_t>(index));
  CO_RETURN_IF_ERROR(co_await SwitchTo(std::move(snapshots)));

  CO_RETURN_IF_ERROR(Leaking(co_await FreeDeleted(deleted, l1)));
  // COPIED where the refcount is still two on the disk would be wrong; the other way round not.
  CO_RETURN_IF_ERROR(co_await Flush());
  CO_RETURN_IF_ERROR(co_await RefreshCopied());
  co_return co_await Flush();
}

Task<absl::Status> Snapshots::FreeDeleted(const Snapshot& snapshot, std::span<const L1Entry> l1) {
  CO_RETURN_IF_ERROR(co_await tree_.RemoveReferences(l1));
  if (l1.empty()) co_return absl::OkStatus();
  const Geometry& geometry = metadata_.geometry;
  const ClusterRun table{geometry.ClusterOf(snapshot.l1_table_offset),
                         geometry.ClustersFor(snapshot.l1_entries * kTableEntryBytes)};
  co_return co_await allocator_.RemoveReference(table, /*is_l2_table=*/false);
}

Task<absl::Status> Snapshots::Apply(size_t index) {
  CO_RETURN_IF_ERROR(CheckIndex(index));
  CO_RETURN_IF_ERROR(co_await Flush());
  const Snapshot snapshot = snapshots_[index];
  CO_ASSIGN_OR_RETURN(const Geometry geometry,
                      metadata_.geometry.Resized(
                          snapshot.virtual_size.value_or(metadata_.geometry.virtual_size())));
  CO_ASSIGN_OR_RETURN(const std::vector<L1Entry> l1, co_await ReadL1(index));
  const std::vector<L1Entry> old_l1 = ActiveL1(metadata_);
  const HostOffset old_table = metadata_.l1.offset();
  CO_RETURN_IF_ERROR(co_await tree_.AddReferences(l1));
  absl::Status status = co_await Flush();
  // Tables that only the snapshot had may have COPIED set.
  if (status.ok()) status = co_await tree_.ClearCopied(l1);
  if (status.ok()) status = co_await Flush();
  if (status.ok()) {
    status = co_await ReplaceActiveL1(metadata_, allocator_, WithoutCopied(l1), geometry);
  }
  if (!status.ok()) {
    const bool has_switched = metadata_.l1.offset() != old_table;
    if (!has_switched) status.Update(co_await tree_.RemoveReferences(l1));
    co_return status;
  }
  const absl::Status left = co_await tree_.RemoveReferences(old_l1);
  CO_RETURN_IF_ERROR(co_await Flush());
  CO_RETURN_IF_ERROR(co_await RefreshCopied());
  CO_RETURN_IF_ERROR(co_await Flush());
  co_return Leaking(left);
}

Task<absl::Status> Snapshots::ClearCopied() {
  const std::vector<L1Entry> l1 = ActiveL1(metadata_);
  for (uint64_t i = 0; i < l1.size(); ++i) {
    if (l1[i].copied()) metadata_.l1.Set(i, l1[i].WithCopied(false).raw());
  }
  co_return co_await tree_.ClearCopied(l1);
}

Task<absl::Status> Snapshots::RefreshCopied() {
  const std::vector<L1Entry> l1 = ActiveL1(metadata_);
  for (uint64_t i = 0; i < l1.size(); ++i) {
    const std::optional<HostOffset> l2_table = l1[i].l2_table();
    if (!l2_table.has_value()) continue;
    CO_ASSIGN_OR_RETURN(const uint64_t refcount, co_await allocator_.refcounts().Get(
                                                     metadata_.geometry.ClusterOf(*l2_table)));
    const L1Entry entry = l1[i].WithCopied(refcount == 1);
    if (entry != l1[i]) metadata_.l1.Set(i, entry.raw());
  }
  co_return co_await tree_.RefreshCopied(l1);
}

Task<absl::StatusOr<ClusterRun>> Snapshots::WriteNew(std::span<const std::byte> bytes,
                                                     Content content) {
  const Geometry& geometry = metadata_.geometry;
  const AlignedBuffer padded(AlignUp(bytes.size(), kSectorBytes));
  std::memset(padded.data(), 0, padded.size());
  std::copy(bytes.begin(), bytes.end(), padded.data());
  CO_ASSIGN_OR_RETURN(const AllocatedRun run, co_await allocator_.Allocate(std::max<uint64_t>(
                                                  geometry.ClustersFor(bytes.size()), 1)));
  absl::Status status =
      co_await metadata_.disk.Write(geometry.OffsetOf(run.first), padded.span(), content);
  if (status.ok()) co_return run;
  status.Update(co_await allocator_.Free(run));
  co_return status;
}

Task<absl::StatusOr<ClusterRun>> Snapshots::WriteL1Copy(std::span<const L1Entry> l1) {
  std::vector<std::byte> bytes(l1.size() * kTableEntryBytes);
  for (uint64_t i = 0; i < l1.size(); ++i) {
    StoreBe64At(bytes, i, l1[i].WithCopied(false).raw());
  }
  co_return co_await WriteNew(bytes, Content::kL1);
}

Task<absl::Status> Snapshots::Complete() {
  const bool is_complete =
      std::all_of(snapshots_.begin(), snapshots_.end(), [](const Snapshot& snapshot) {
        return snapshot.extra_data.size() >= kMinSnapshotExtraBytesV3;
      });
  if (is_complete) co_return absl::OkStatus();
  co_return co_await SwitchTo(snapshots_);
}

Task<absl::Status> Snapshots::SwitchTo(std::vector<Snapshot> snapshots) {
  const Geometry& geometry = metadata_.geometry;
  for (Snapshot& snapshot : snapshots) {
    snapshot.virtual_size = snapshot.virtual_size.value_or(geometry.virtual_size());
    snapshot.extra_data.resize(std::max(snapshot.extra_data.size(), kSnapshotExtraBytes));
  }
  CO_ASSIGN_OR_RETURN(HostOffsets l2_tables, co_await FindL2Tables(snapshots));
  HostOffset place(0);
  uint64_t bytes = 0;
  if (!snapshots.empty()) {
    CO_ASSIGN_OR_RETURN(const std::vector<std::byte> table, SerializeSnapshotTable(snapshots));
    CO_ASSIGN_OR_RETURN(const ClusterRun run, co_await WriteNew(table, Content::kOther));
    place = geometry.OffsetOf(run.first);
    bytes = table.size();
    if (absl::Status status = co_await Flush(); !status.ok()) {
      status.Update(co_await allocator_.Free(run));
      co_return status;
    }
  }
  const ClusterRun old{geometry.ClusterOf(metadata_.header.snapshots_offset),
                       geometry.ClustersFor(table_bytes_)};
  metadata_.header.snapshots_offset = place;
  metadata_.header.nb_snapshots = static_cast<uint32_t>(snapshots.size());
  metadata_.StoreHeader();
  snapshots_ = std::move(snapshots);
  table_bytes_ = bytes;
  UpdateGuard(std::move(l2_tables));
  CO_RETURN_IF_ERROR(co_await Flush());
  if (old.count == 0) co_return absl::OkStatus();
  co_return Leaking(co_await allocator_.RemoveReference(old, /*is_l2_table=*/false));
}

}  // namespace ringcow
