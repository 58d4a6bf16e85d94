#include "tests/support/checked.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/loop.h"
#include "qcow2/check.h"

namespace ringcow {
namespace {

std::string Check(Disk& disk, bool leaks_count) {
  std::string findings;
  CheckOptions options;
  options.report = [&](absl::string_view line) { absl::StrAppend(&findings, line, "\n"); };
  const absl::StatusOr<CheckResult> result = disk.loop().Run(CheckImage(disk, std::move(options)));
  if (!result.ok()) return result.status().ToString();
  const bool harmless = result->corruptions == 0 && result->check_errors == 0;
  if (result->is_clean() || (harmless && !leaks_count)) return "";
  return absl::StrCat(result->corruptions, " corruptions, ", result->leaks, " leaks, ",
                      result->check_errors, " check errors\n", findings);
}

}  // namespace

std::string Findings(Disk& disk) { return Check(disk, /*leaks_count=*/true); }
std::string FindingsWithoutLeaks(Disk& disk) { return Check(disk, /*leaks_count=*/false); }

}  // namespace ringcow
