#include "qcow2/blkdebug/options.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/blkdebug/debug_group.h"

namespace ringcow {
namespace {

struct NamedGroup {
  std::string name;
  DebugGroup members;
};

absl::StatusOr<DebugRules> RulesOf(const std::vector<NamedGroup>& groups) {
  DebugRules rules;
  for (const NamedGroup& group : groups) {
    RETURN_IF_ERROR(AddDebugRule(group.name, group.members, rules));
  }
  return rules;
}

// "[inject-error]" or "[inject-error "id"]"; the name, where it is one.
std::optional<absl::string_view> GroupOfHeading(absl::string_view line) {
  if (!absl::ConsumePrefix(&line, "[")) return std::nullopt;
  const absl::string_view inside = line.substr(0, line.find(']'));
  return absl::StripTrailingAsciiWhitespace(inside.substr(0, inside.find('"')));
}

// A line such as `errno = "5"`. As QEMU reads it: a value without quotes is none.
absl::Status AddMember(absl::string_view line, NamedGroup& group) {
  line = absl::StripLeadingAsciiWhitespace(line);
  const absl::string_view key = line.substr(0, line.find_first_of(" \t"));
  line = absl::StripLeadingAsciiWhitespace(line.substr(key.size()));
  if (!IsDebugKey(group.name, key)) {
    return absl::InvalidArgumentError(absl::StrFormat("Invalid parameter '%s'", key));
  }
  std::string& value = group.members[std::string(key)];
  value.clear();
  if (!absl::ConsumePrefix(&line, "=")) return absl::OkStatus();
  line = absl::StripLeadingAsciiWhitespace(line);
  if (!absl::ConsumePrefix(&line, "\"")) return absl::OkStatus();
  const size_t end = line.find('"');
  if (end == absl::string_view::npos) return absl::InvalidArgumentError("parse error");
  value = std::string(line.substr(0, end));
  return absl::OkStatus();
}

// Takes out the groups of a list of rules: "inject-error.0.event", ... in the order of the indices.
absl::StatusOr<std::vector<NamedGroup>> TakeGroups(ImageDescription& options,
                                                   absl::string_view name) {
  std::vector<NamedGroup> groups;
  std::optional<ImageDescription> list = options.TakeChild(std::string(name));
  if (!list.has_value()) return groups;
  // QEMU takes a single rule by itself as well.
  bool is_alone = true;
  for (const auto& [key, value] : list->options()) is_alone &= IsDebugKey(name, key);
  if (is_alone) {
    groups.push_back({std::string(name), list->options()});
    return groups;
  }
  for (size_t i = 0;; ++i) {
    std::optional<ImageDescription> rule = list->TakeChild(absl::StrCat(i));
    if (!rule.has_value()) break;
    for (const auto& [key, value] : rule->options()) {
      if (IsDebugKey(name, key)) continue;
      return absl::InvalidArgumentError(
          absl::StrFormat("[%s] section doesn't support the option '%s'", name, key));
    }
    groups.push_back({std::string(name), rule->options()});
  }
  if (list->options().empty()) return groups;
  return absl::InvalidArgumentError(
      absl::StrFormat("Unused option '%s' for [%s]", list->options().begin()->first, name));
}

absl::Status CheckLimit(absl::string_view name, uint64_t value, uint64_t multiple_of) {
  constexpr auto kMax = static_cast<uint64_t>(std::numeric_limits<int32_t>::max());
  if (value < kMax && value % multiple_of == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("Cannot meet constraints with %s %d", name, value));
}

}  // namespace

absl::Status DebugLimits::Validate(uint64_t alignment) const {
  if (!std::has_single_bit(align) && align != 0) return CheckLimit("align", align, align + 1);
  RETURN_IF_ERROR(CheckLimit("align", align, 1));
  const uint64_t unit = std::max(align, alignment);
  RETURN_IF_ERROR(CheckLimit("max-transfer", max_transfer, unit));
  RETURN_IF_ERROR(CheckLimit("opt-write-zero", opt_write_zero, unit));
  RETURN_IF_ERROR(CheckLimit("max-write-zero", max_write_zero, std::max(opt_write_zero, unit)));
  RETURN_IF_ERROR(CheckLimit("opt-discard", opt_discard, unit));
  return CheckLimit("max-discard", max_discard, std::max(opt_discard, unit));
}

uint64_t FirstPiece(uint64_t offset, uint64_t length, uint64_t unit, uint64_t max) {
  if (offset % unit != 0) return std::min(length, unit - offset % unit);
  if (length < unit) return length;
  const uint64_t whole = length - length % unit;
  return max == 0 ? whole : std::min(whole, max);
}

absl::StatusOr<BlkdebugOptions> TakeBlkdebugOptions(ImageDescription& options) {
  BlkdebugOptions taken;
  taken.config = options.Take("config").value_or("");
  taken.given = options.options();
  for (const absl::string_view name : {kInjectErrorGroup, kSetStateGroup}) {
    ASSIGN_OR_RETURN(const std::vector<NamedGroup> groups, TakeGroups(options, name));
    for (const NamedGroup& group : groups) {
      RETURN_IF_ERROR(AddDebugRule(group.name, group.members, taken.rules));
    }
  }
  const std::pair<const char*, uint64_t*> limits[] = {
      {"align", &taken.limits.align},
      {"max-transfer", &taken.limits.max_transfer},
      {"opt-write-zero", &taken.limits.opt_write_zero},
      {"max-write-zero", &taken.limits.max_write_zero},
      {"opt-discard", &taken.limits.opt_discard},
      {"max-discard", &taken.limits.max_discard},
  };
  for (const auto& [name, limit] : limits) {
    ASSIGN_OR_RETURN(const std::optional<uint64_t> bytes, options.TakeBytes(name));
    *limit = bytes.value_or(0);
  }
  for (const auto& [name, value] : options.options()) taken.given.erase(name);
  return taken;
}

absl::StatusOr<DebugRules> ParseDebugConfig(absl::string_view text) {
  std::vector<NamedGroup> groups;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StripAsciiWhitespace(line).empty() || line.front() == '#') continue;
    if (const std::optional<absl::string_view> name = GroupOfHeading(line)) {
      if (!IsDebugGroup(*name)) {
        return absl::InvalidArgumentError(absl::StrFormat("There is no option group '%s'", *name));
      }
      groups.push_back({std::string(*name), {}});
      continue;
    }
    if (groups.empty()) return absl::InvalidArgumentError("no group defined");
    RETURN_IF_ERROR(AddMember(line, groups.back()));
  }
  return RulesOf(groups);
}

absl::StatusOr<DebugRules> LoadDebugRules(const BlkdebugOptions& options) {
  if (options.config.empty()) return options.rules;
  std::ifstream file(options.config);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file.is_open() || file.bad()) {
    return ErrnoStatus(errno, "Could not read blkdebug config file");
  }
  ASSIGN_OR_RETURN(DebugRules rules, ParseDebugConfig(text));
  const DebugRules& more = options.rules;
  rules.inject_errors.insert(rules.inject_errors.end(), more.inject_errors.begin(),
                             more.inject_errors.end());
  rules.set_states.insert(rules.set_states.end(), more.set_states.begin(), more.set_states.end());
  return rules;
}

}  // namespace ringcow
