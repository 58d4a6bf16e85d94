#include "tests/support/checked.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "engine/loop.h"
#include "qcow2/check.h"
#include "qcow2/read_header.h"

namespace ringcow {
namespace {

struct Found {
  absl::Status status;  // of the check itself
  CheckResult result;
  std::vector<std::string> lines;

  std::string ToString() const {
    if (!status.ok()) return status.ToString();
    return absl::StrCat(result.corruptions, " corruptions, ", result.leaks, " leaks, ",
                        result.check_errors, " check errors\n", absl::StrJoin(lines, "\n"));
  }
};

Found Check(Disk& disk) {
  Found found;
  CheckOptions options;
  options.report = [&found](absl::string_view line) { found.lines.emplace_back(line); };
  const absl::StatusOr<CheckResult> result = disk.loop().Run(CheckImage(disk, std::move(options)));
  found.status = result.status();
  if (result.ok()) found.result = *result;
  return found;
}

// The number behind `name`, where `line` has it.
std::optional<uint64_t> NumberIn(absl::string_view line, absl::string_view name, int base) {
  const size_t at = line.find(name);
  if (at == absl::string_view::npos) return std::nullopt;
  return std::strtoull(std::string(line.substr(at + name.size())).c_str(), nullptr, base);
}

// How many of the lines are about COPIED flags that do no harm.
uint64_t HarmlessCopied(const Found& found, uint64_t cluster_bytes) {
  constexpr uint64_t kCopied = uint64_t{1} << 63;
  constexpr uint64_t kOffset = 0x00fffffffffffe00;
  std::set<uint64_t> leaked;
  for (const std::string& line : found.lines) {
    if (const auto cluster = NumberIn(line, "Leaked cluster ", 10)) leaked.insert(*cluster);
  }
  return std::count_if(found.lines.begin(), found.lines.end(), [&](const std::string& line) {
    if (!absl::StartsWith(line, "ERROR OFLAG_COPIED")) return false;
    const uint64_t entry =
        NumberIn(line, "l2_entry=", 16).value_or(NumberIn(line, "l1_entry=", 16).value_or(kCopied));
    return (entry & kCopied) == 0 || leaked.contains((entry & kOffset) / cluster_bytes);
  });
}

}  // namespace

std::string Findings(Disk& disk) {
  const Found found = Check(disk);
  return found.status.ok() && found.result.is_clean() ? "" : found.ToString();
}

std::string FindingsWithoutLeaks(Disk& disk) {
  const Found found = Check(disk);
  const bool has_leaks_only =
      found.status.ok() && found.result.corruptions == 0 && found.result.check_errors == 0;
  return has_leaks_only ? "" : found.ToString();
}

std::string FindingsExceptHarmlessCopied(Disk& disk) {
  const Found found = Check(disk);
  const absl::StatusOr<Header> header = disk.loop().Run(ReadHeader(disk));
  if (!found.status.ok() || !header.ok()) return found.ToString();
  const bool is_harmless =
      found.result.check_errors == 0 &&
      found.result.corruptions == HarmlessCopied(found, header->cluster_bytes());
  return is_harmless ? "" : found.ToString();
}

}  // namespace ringcow
