#include "qcow2/check.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/check_findings.h"
#include "qcow2/check_image.h"
#include "qcow2/format/header.h"
#include "qcow2/read_header.h"

namespace ringcow {
namespace {

Task<absl::Status> Run(ImageCheck& check) {
  CO_RETURN_IF_ERROR(co_await check.CountReferences());
  if (check.stopped()) co_return absl::OkStatus();
  co_await check.Compare({});
  co_return co_await check.CheckCopied(CopiedRepair::kNo);
}

}  // namespace

Task<absl::StatusOr<CheckResult>> CheckImage(Disk& disk, CheckOptions options) {
  CO_ASSIGN_OR_RETURN(const Header header, co_await ReadHeader(disk, HeaderChecks::kForRepair));
  CO_ASSIGN_OR_RETURN(const Geometry geometry, GeometryOf(header));
  Findings findings(std::move(options));
  findings.result.total_clusters = geometry.guest_clusters();
  ImageCheck check(disk, header, geometry, findings);
  CO_RETURN_IF_ERROR(co_await check.LoadRefcountTable());
  const absl::Status status = co_await Run(check);
  if (!status.ok()) {
    findings.Report(absl::StrFormat("ERROR: %s", status.message()));
    findings.Stop(ErrnoOf(status));
  }
  co_return findings.result;
}

}  // namespace ringcow
