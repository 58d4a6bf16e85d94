#include "qcow2/check_image.h"

#include <cerrno>
#include <climits>
#include <memory>
#include <span>

#include "engine/status_macros.h"
#include "qcow2/check_bitmaps.h"
#include "qcow2/check_snapshots.h"
#include "qcow2/format/big_endian.h"

namespace ringcow {
namespace {

// Encryption keys take whole clusters; where is in the header extension.
void CountCryptoHeader(const Header& header, ReferenceCounter& counter) {
  if (!header.extensions.crypto_header || header.extensions.crypto_header->size() < 16) return;
  const std::span<const std::byte> payload = *header.extensions.crypto_header;
  counter.AddRange(HostOffset(LoadBe64At(payload, 0)), LoadBe64At(payload, 1));
}

}  // namespace

ImageCheck::ImageCheck(Disk& disk, const Header& header, const Geometry& geometry,
                       Findings& findings)
    : disk_(disk),
      header_(header),
      findings_(findings),
      external_data_(header.external_data()),
      counter_(geometry, disk.size(), findings),
      refcounts_(disk, header, geometry) {}

std::vector<WeightedRange> ImageCheck::L1Tables(const SnapshotTable& snapshots) const {
  const uint64_t active = header_.l1_table_offset.value();
  std::vector<WeightedRange> tables = {
      {.begin = active, .end = active + header_.l1_table_bytes(), .active = true}};
  for (const Snapshot& snapshot : snapshots.snapshots) {
    const auto table = SnapshotL1Table(snapshot, counter_.geometry());
    if (table) tables.push_back(*table);
  }
  return tables;
}

Task<absl::Status> ImageCheck::LoadRefcountTable() { return refcounts_.LoadTable(); }

Task<absl::Status> ImageCheck::CountReferences(EntryRepair repair) {
  CO_ASSIGN_OR_RETURN(const SnapshotTable snapshots,
                      co_await CheckSnapshotTable(disk_, header_, findings_));
  if (stopped()) co_return absl::OkStatus();
  co_return co_await CountReferences(snapshots, repair);
}

Task<absl::Status> ImageCheck::CountReferences(const SnapshotTable& snapshots, EntryRepair repair) {
  // QEMU's limit too. It bounds what is walked and reported for holes.
  if (counter_.clusters() > INT_MAX) {
    findings_.Stop(EFBIG);
    co_return absl::OkStatus();
  }
  walk_ = std::make_unique<TableWalk>(disk_, counter_.geometry(), L1Tables(snapshots));
  CO_RETURN_IF_ERROR(co_await walk_->CountUses());
  co_return co_await CountAll(snapshots, repair);
}

Task<absl::Status> ImageCheck::CheckCopied(CopiedRepair repair) {
  CopiedVisitor copied(counter_, refcounts_, disk_,
                       {header_.l1_table_offset, external_data_, repair});
  walk_->BeginPass();
  co_return co_await walk_->VisitActive(copied);
}

Task<absl::Status> ImageCheck::CountAll(const SnapshotTable& snapshots, EntryRepair repair) {
  const std::vector<WeightedRange> l1_tables = L1Tables(snapshots);
  ReferenceVisitor visitor(counter_, external_data_,
                           /*leaves_unaligned_zeroes=*/repair == EntryRepair::kYes);
  walk_->BeginPass();

  counter_.AddRange(HostOffset(0), counter_.geometry().cluster_bytes());
  counter_.AddTables({l1_tables.front()});
  CO_RETURN_IF_ERROR(co_await walk_->VisitActive(visitor));

  ReportBadSnapshots(snapshots, counter_.geometry(), external_data_, findings_);
  if (stopped()) co_return absl::OkStatus();
  counter_.AddTables({l1_tables.begin() + 1, l1_tables.end()});
  CO_RETURN_IF_ERROR(co_await walk_->VisitSnapshots(visitor));

  counter_.AddRange(header_.snapshots_offset, snapshots.bytes);
  // A lost refcount table is about to be replaced, and claims no place.
  const bool others_beyond_file = counter_.found_beyond_file();
  counter_.AddRange(header_.refcount_table_offset, header_.refcount_table_bytes());
  counter_.set_found_beyond_file(others_beyond_file);
  CountCryptoHeader(header_, counter_);
  CO_RETURN_IF_ERROR(co_await CountBitmaps(disk_, header_, counter_));
  if (stopped()) co_return absl::OkStatus();
  refcounts_.CountBlocks(counter_);
  if (!visitor.left_unaligned_zeroes()) co_return absl::OkStatus();
  // Only now is it known which tables something else claims too.
  EntryRepairVisitor repairer(counter_, disk_, external_data_);
  walk_->BeginPass();
  CO_RETURN_IF_ERROR(co_await walk_->VisitActive(repairer));
  CO_RETURN_IF_ERROR(co_await walk_->VisitSnapshots(repairer));
  // A refcount falls only when its reference is gone.
  co_return co_await disk_.Fdatasync();
}

}  // namespace ringcow
