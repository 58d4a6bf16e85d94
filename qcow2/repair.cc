#include "qcow2/repair.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/check_findings.h"
#include "qcow2/check_image.h"
#include "qcow2/format/header.h"
#include "qcow2/read_header.h"
#include "qcow2/repair_header.h"
#include "qcow2/repair_refcounts.h"
#include "qcow2/repair_snapshots.h"

namespace ringcow {
namespace {

class Repair {
 public:
  Repair(Disk& disk, const Header& header, const Geometry& geometry, RepairScope scope,
         Findings& findings)
      : disk_(disk), header_(header), geometry_(geometry), scope_(scope), findings_(findings) {}

  Task<absl::Status> Run();

 private:
  CheckResult& result() { return findings_.result; }
  bool repairs_all() const { return scope_ == RepairScope::kAll; }

  Task<absl::Status> Count(ImageCheck& check, EntryRepair repair);
  // Both leave the refcounts right, as far as the scope goes, or the check stopped.
  Task<absl::Status> RepairRefcounts();
  Task<absl::Status> Rebuild(ImageCheck& broken);
  Task<absl::Status> RepairCopied(ImageCheck& check);

  Disk& disk_;
  Header header_;
  const Geometry geometry_;
  const RepairScope scope_;
  Findings& findings_;
  MendedSnapshots snapshots_;  // of a repair of all
};

Task<absl::Status> Repair::Run() {
  // What is read may still be volatile, written by a process that was killed; the repair relies on
  // it.
  CO_RETURN_IF_ERROR(co_await disk_.Fdatasync());
  CO_RETURN_IF_ERROR(co_await ClearUnknownAutoclear(disk_, header_));
  if (repairs_all()) {
    CO_ASSIGN_OR_RETURN(snapshots_, co_await MendSnapshots(disk_, header_, findings_));
    if (result().stopped_by != 0) co_return absl::OkStatus();
  }
  CO_RETURN_IF_ERROR(co_await RepairRefcounts());
  if (result().stopped_by != 0) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(co_await RewriteSnapshots(disk_, header_, geometry_, snapshots_, findings_));
  if (result().check_errors != 0 || result().corruptions != 0) co_return absl::OkStatus();
  co_return co_await ClearDamageBits(disk_, header_);
}

Task<absl::Status> Repair::Count(ImageCheck& check, EntryRepair repair) {
  if (repairs_all()) co_return co_await check.CountReferences(snapshots_.table, repair);
  co_return co_await check.CountReferences(repair);
}

Task<absl::Status> Repair::RepairRefcounts() {
  ImageCheck check(disk_, header_, geometry_, findings_);
  CO_RETURN_IF_ERROR(co_await check.LoadRefcountTable());
  CO_RETURN_IF_ERROR(co_await Count(check, repairs_all() ? EntryRepair::kYes : EntryRepair::kNo));
  if (check.stopped()) co_return absl::OkStatus();
  const CheckResult counted = result();
  co_await check.Compare({.keeps_references = true});

  const StoredRefcounts& refcounts = check.refcounts();
  if (refcounts.needs_rebuild() || (repairs_all() && refcounts.has_block_outside())) {
    if (repairs_all()) co_return co_await Rebuild(check);
    findings_.Report("ERROR need to rebuild refcount structures");
    findings_.Stop(EIO);
    co_return absl::OkStatus();
  }
  // Also without mismatches: what is not repaired has to become what the flags are compared with.
  if (result().leaks != 0 || result().corruptions != 0) {
    result() = counted;
    co_await check.Compare({.fixes_leaks = true, .fixes_corruptions = repairs_all()});
    CO_RETURN_IF_ERROR(co_await WriteRefcounts(disk_, refcounts, check.counter()));
  }
  co_return co_await RepairCopied(check);
}

Task<absl::Status> Repair::Rebuild(ImageCheck& broken) {
  const CheckResult before = result();
  findings_.Report("Rebuilding refcount structure");
  CO_ASSIGN_OR_RETURN(const RefcountTablePlace place,
                      co_await BuildRefcounts(disk_, broken.counter()));
  CO_RETURN_IF_ERROR(co_await SwitchRefcountTable(disk_, place));
  header_.refcount_table_offset = place.offset;
  header_.refcount_table_clusters = place.clusters;

  result() = {.corruptions_fixed = before.corruptions_fixed,
              .total_clusters = before.total_clusters};
  ImageCheck check(disk_, header_, geometry_, findings_);
  CO_RETURN_IF_ERROR(co_await check.LoadRefcountTable());
  CO_RETURN_IF_ERROR(co_await Count(check, EntryRepair::kNo));
  if (check.stopped()) co_return absl::OkStatus();
  // What is a leak now are the old structures.
  co_await check.Compare({.fixes_leaks = true});
  CO_RETURN_IF_ERROR(co_await WriteRefcounts(disk_, check.refcounts(), check.counter()));
  result().leaks_fixed = before.leaks;
  result().corruptions_fixed +=
      before.corruptions - std::min(before.corruptions, result().corruptions);
  co_return co_await RepairCopied(check);
}

Task<absl::Status> Repair::RepairCopied(ImageCheck& check) {
  const bool is_safe =
      result().check_errors == 0 && result().corruptions == 0 && result().leaks == 0;
  const CopiedRepair repair = repairs_all() || is_safe ? CopiedRepair::kYes : CopiedRepair::kNo;
  CO_RETURN_IF_ERROR(co_await check.CheckCopied(repair));
  co_return co_await disk_.Fdatasync();
}

}  // namespace

Task<absl::StatusOr<CheckResult>> RepairImage(Disk& disk, RepairScope scope, CheckOptions options) {
  CO_ASSIGN_OR_RETURN(const Header header, co_await ReadHeader(disk, HeaderChecks::kForRepair));
  CO_ASSIGN_OR_RETURN(const Geometry geometry, GeometryOf(header));
  Findings findings(std::move(options));
  findings.result.total_clusters = geometry.guest_clusters();
  Repair repair(disk, header, geometry, scope, findings);
  const absl::Status status = co_await repair.Run();
  if (!status.ok()) {
    findings.Report(absl::StrFormat("ERROR: %s", status.message()));
    findings.Stop(ErrnoOf(status));
  }
  // What was written to the header has made another one of it.
  if (scope == RepairScope::kAll && header.nb_snapshots > 0 &&
      header.snapshots_offset.value() < header.cluster_bytes()) {
    findings.Report("ERROR: the snapshot table is said to be in the header's cluster");
    ++findings.result.check_errors;
  }
  co_return findings.result;
}

Task<absl::Status> RepairDirtyImage(Disk& disk) {
  CO_ASSIGN_OR_RETURN(const CheckResult result,
                      co_await RepairImage(disk, RepairScope::kAll, CheckOptions()));
  if (result.check_errors == 0 && result.corruptions == 0) co_return absl::OkStatus();
  co_return absl::FailedPreconditionError(absl::StrCat(
      "'", disk.name(), "': Could not repair dirty image",
      result.stopped_by != 0 ? absl::StrCat(": ", std::strerror(result.stopped_by)) : ""));
}

}  // namespace ringcow
