#include "qcow2/overlap_check_option.h"

#include <string>

#include "absl/strings/str_format.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

struct NamedStructure {
  const char* name;
  OverlapCheck::Structure structure;
};

constexpr NamedStructure kStructures[] = {
    {"main-header", OverlapCheck::kMainHeader},
    {"active-l1", OverlapCheck::kActiveL1},
    {"active-l2", OverlapCheck::kActiveL2},
    {"refcount-table", OverlapCheck::kRefcountTable},
    {"refcount-block", OverlapCheck::kRefcountBlock},
    {"snapshot-table", OverlapCheck::kSnapshotTable},
    {"inactive-l1", OverlapCheck::kInactiveL1},
    {"inactive-l2", OverlapCheck::kInactiveL2},
    {"bitmap-directory", OverlapCheck::kBitmapDirectory},
};

absl::StatusOr<OverlapCheck> TemplateOf(const std::string& name) {
  if (name == "none") return OverlapCheck::kNone;
  if (name == "constant") return OverlapCheck::kConstant;
  if (name == "cached") return OverlapCheck::kCached;
  if (name == "all") return OverlapCheck::kAll;
  return absl::InvalidArgumentError(
      absl::StrFormat("Unsupported value '%s' for qcow2 option 'overlap-check'. Allowed are any "
                      "of the following: none, constant, cached, all",
                      name));
}

}  // namespace

absl::StatusOr<std::optional<OverlapCheck>> TakeOverlapCheck(ImageDescription& options) {
  const std::optional<std::string> whole = options.Take("overlap-check");
  const std::optional<std::string> part = options.Take("overlap-check.template");
  if (whole.has_value() && part.has_value() && *whole != *part) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Conflicting values for qcow2 options 'overlap-check' ('%s') and "
                        "'overlap-check.template' ('%s')",
                        *whole, *part));
  }
  bool is_given = whole.has_value() || part.has_value();
  ASSIGN_OR_RETURN(OverlapCheck check, TemplateOf(whole.value_or(part.value_or("cached"))));
  for (const NamedStructure& one : kStructures) {
    ASSIGN_OR_RETURN(const std::optional<bool> has,
                     options.TakeFlag(absl::StrFormat("overlap-check.%s", one.name)));
    if (has.has_value()) check = check.With(one.structure, *has);
    is_given |= has.has_value();
  }
  return is_given ? std::optional(check) : std::nullopt;
}

}  // namespace ringcow
