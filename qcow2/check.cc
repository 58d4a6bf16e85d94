#include "qcow2/check.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/check_bitmaps.h"
#include "qcow2/check_copied.h"
#include "qcow2/check_findings.h"
#include "qcow2/check_refcounts.h"
#include "qcow2/check_references.h"
#include "qcow2/check_snapshots.h"
#include "qcow2/check_table_walk.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/header.h"
#include "qcow2/read_header.h"

namespace ringcow {
namespace {

// Encryption keys take whole clusters; where is in the header extension.
void CountCryptoHeader(const Header& header, ReferenceCounter& counter) {
  if (!header.extensions.crypto_header || header.extensions.crypto_header->size() < 16) return;
  const std::span<const std::byte> payload = *header.extensions.crypto_header;
  counter.AddRange(HostOffset(LoadBe64At(payload, 0)), LoadBe64At(payload, 1));
}

// The walk over one image. Errors of its parts are those of the disk; what is wrong in the image is
// in the findings.
class ImageCheck {
 public:
  ImageCheck(Disk& disk, const Header& header, const Geometry& geometry, Findings& findings)
      : disk_(disk),
        header_(header),
        findings_(findings),
        external_data_((header.incompatible_features & kIncompatibleExternalDataFile) != 0),
        counter_(geometry, disk.size(), findings),
        refcounts_(disk, header, geometry) {}

  Task<absl::Status> LoadRefcountTable() { return refcounts_.LoadTable(); }
  Task<absl::Status> Run();

 private:
  bool stopped() const { return findings_.result.stopped_by != 0; }

  std::vector<WeightedRange> L1Tables(const SnapshotTable& snapshots) const;
  Task<absl::Status> CountReferences(const SnapshotTable& snapshots, TableWalk& walk);

  Disk& disk_;
  const Header& header_;
  Findings& findings_;
  const bool external_data_;
  ReferenceCounter counter_;
  StoredRefcounts refcounts_;
};

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

Task<absl::Status> ImageCheck::Run() {
  CO_ASSIGN_OR_RETURN(const SnapshotTable snapshots,
                      co_await ReadSnapshotTable(disk_, header_, findings_));
  if (stopped()) co_return absl::OkStatus();
  // QEMU's limit too. It bounds what is walked and reported for holes.
  if (counter_.clusters() > INT_MAX) {
    findings_.Stop(EFBIG);
    co_return absl::OkStatus();
  }
  TableWalk walk(disk_, counter_.geometry(), L1Tables(snapshots));
  CO_RETURN_IF_ERROR(co_await walk.CountUses());
  CO_RETURN_IF_ERROR(co_await CountReferences(snapshots, walk));
  if (stopped()) co_return absl::OkStatus();

  co_await refcounts_.Compare(counter_);

  CopiedVisitor copied(counter_, refcounts_, disk_.size(), external_data_);
  walk.BeginPass();
  co_return co_await walk.VisitActive(copied);
}

Task<absl::Status> ImageCheck::CountReferences(const SnapshotTable& snapshots, TableWalk& walk) {
  const std::vector<WeightedRange> l1_tables = L1Tables(snapshots);
  ReferenceVisitor visitor(counter_, external_data_);
  walk.BeginPass();

  counter_.AddRange(HostOffset(0), counter_.geometry().cluster_bytes());
  counter_.AddTables({l1_tables.front()});
  CO_RETURN_IF_ERROR(co_await walk.VisitActive(visitor));

  ReportBadSnapshots(snapshots, counter_.geometry(), external_data_, findings_);
  if (stopped()) co_return absl::OkStatus();
  counter_.AddTables({l1_tables.begin() + 1, l1_tables.end()});
  CO_RETURN_IF_ERROR(co_await walk.VisitSnapshots(visitor));

  counter_.AddRange(header_.snapshots_offset, snapshots.bytes);
  counter_.AddRange(header_.refcount_table_offset, header_.refcount_table_bytes());
  CountCryptoHeader(header_, counter_);
  CO_RETURN_IF_ERROR(co_await CountBitmaps(disk_, header_, counter_));
  if (!stopped()) refcounts_.CountBlocks(counter_);
  co_return absl::OkStatus();
}

}  // namespace

Task<absl::StatusOr<CheckResult>> CheckImage(Disk& disk, CheckOptions options) {
  CO_ASSIGN_OR_RETURN(const Header header, co_await ReadHeader(disk, HeaderChecks::kForRepair));
  CO_ASSIGN_OR_RETURN(const Geometry geometry, GeometryOf(header));
  Findings findings(std::move(options));
  findings.result.total_clusters = geometry.guest_clusters();
  ImageCheck check(disk, header, geometry, findings);
  CO_RETURN_IF_ERROR(co_await check.LoadRefcountTable());
  const absl::Status status = co_await check.Run();
  if (!status.ok()) {
    findings.Report(absl::StrFormat("ERROR: %s", status.message()));
    findings.Stop(ErrnoOf(status));
  }
  co_return findings.result;
}

}  // namespace ringcow
