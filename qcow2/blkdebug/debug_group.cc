#include "qcow2/blkdebug/debug_group.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr absl::string_view kInjectErrorKeys[] = {"event",  "state", "iotype",     "errno",
                                                  "sector", "once",  "immediately"};
constexpr absl::string_view kSetStateKeys[] = {"event", "state", "new_state"};
constexpr uint64_t kSectorBytes = 512;

struct NamedIo {
  absl::string_view name;
  DebugIo io = DebugIo::kRead;
};

constexpr NamedIo kIos[] = {
    {"read", DebugIo::kRead},
    {"write", DebugIo::kWrite},
    {"write-zeroes", DebugIo::kWriteZeroes},
    {"discard", DebugIo::kDiscard},
    {"flush", DebugIo::kFlush},
    {"block-status", DebugIo::kBlockStatus},
};

std::optional<std::string> ValueOf(const DebugGroup& group, const std::string& key) {
  const auto found = group.find(key);
  return found == group.end() ? std::nullopt : std::optional(found->second);
}

absl::StatusOr<std::optional<uint64_t>> NumberOf(const DebugGroup& group, const std::string& key,
                                                 uint64_t max) {
  const std::optional<std::string> text = ValueOf(group, key);
  if (!text.has_value()) return std::nullopt;
  const bool is_hex = absl::StartsWithIgnoreCase(*text, "0x");
  const absl::string_view digits = absl::string_view(*text).substr(is_hex ? 2 : 0);
  const bool is_number =
      !digits.empty() && std::all_of(digits.begin(), digits.end(), [is_hex](char c) {
        return is_hex ? absl::ascii_isxdigit(static_cast<unsigned char>(c))
                      : absl::ascii_isdigit(static_cast<unsigned char>(c));
      });
  uint64_t number = 0;
  if (!is_number) {
    return absl::InvalidArgumentError(absl::StrFormat("Parameter '%s' expects a number", key));
  }
  const bool fits =
      is_hex ? absl::SimpleHexAtoi(digits, &number) : absl::SimpleAtoi(digits, &number);
  if (fits && number <= max) return number;
  return absl::InvalidArgumentError(
      absl::StrFormat("Value '%s' is too large for parameter '%s'", *text, key));
}

absl::StatusOr<bool> FlagOf(const DebugGroup& group, const std::string& key) {
  const std::string text = ValueOf(group, key).value_or("off");
  for (const absl::string_view yes : {"on", "yes", "true", "y"}) {
    if (text == yes) return true;
  }
  for (const absl::string_view no : {"off", "no", "false", "n"}) {
    if (text == no) return false;
  }
  return absl::InvalidArgumentError(absl::StrFormat("Parameter '%s' expects 'on' or 'off'", key));
}

absl::StatusOr<std::optional<DebugIo>> IoOf(const DebugGroup& group) {
  const std::optional<std::string> name = ValueOf(group, "iotype");
  if (!name.has_value()) return std::nullopt;
  for (const NamedIo& known : kIos) {
    if (known.name == *name) return known.io;
  }
  return absl::InvalidArgumentError(absl::StrFormat("invalid parameter value: %s", *name));
}

// What all kinds of rules have.
template <typename Rule>
absl::Status SetTrigger(const DebugGroup& group, Rule& rule) {
  const std::optional<std::string> event = ValueOf(group, "event");
  if (!event.has_value()) return absl::InvalidArgumentError("Missing event name for rule");
  ASSIGN_OR_RETURN(rule.event, ParseDebugEvent(*event));
  ASSIGN_OR_RETURN(const auto state, NumberOf(group, "state", std::numeric_limits<int32_t>::max()));
  rule.state = state.value_or(0);
  return absl::OkStatus();
}

absl::StatusOr<InjectError> InjectErrorOf(const DebugGroup& group) {
  InjectError rule;
  RETURN_IF_ERROR(SetTrigger(group, rule));
  ASSIGN_OR_RETURN(const auto error, NumberOf(group, "errno", std::numeric_limits<int32_t>::max()));
  rule.error = static_cast<int>(error.value_or(EIO));
  ASSIGN_OR_RETURN(rule.once, FlagOf(group, "once"));
  ASSIGN_OR_RETURN(rule.immediately, FlagOf(group, "immediately"));
  constexpr uint64_t kMaxSector = std::numeric_limits<int64_t>::max() / kSectorBytes;
  ASSIGN_OR_RETURN(const auto sector, NumberOf(group, "sector", kMaxSector));
  if (sector.has_value()) rule.offset = *sector * kSectorBytes;
  if ((rule.error == EINTR || rule.error == EAGAIN) && !rule.once) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "The errno %d makes a request be tried again, for ever without once=on", rule.error));
  }
  ASSIGN_OR_RETURN(rule.io, IoOf(group));
  return rule;
}

absl::StatusOr<SetState> SetStateOf(const DebugGroup& group) {
  SetState rule;
  RETURN_IF_ERROR(SetTrigger(group, rule));
  ASSIGN_OR_RETURN(const auto new_state,
                   NumberOf(group, "new_state", std::numeric_limits<int32_t>::max()));
  rule.new_state = new_state.value_or(0);
  return rule;
}

}  // namespace

bool IsDebugGroup(absl::string_view name) {
  return name == kInjectErrorGroup || name == kSetStateGroup;
}

bool IsDebugKey(absl::string_view group, absl::string_view key) {
  const std::span<const absl::string_view> keys =
      group == kInjectErrorGroup ? std::span<const absl::string_view>(kInjectErrorKeys)
                                 : std::span<const absl::string_view>(kSetStateKeys);
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

absl::Status AddDebugRule(absl::string_view name, const DebugGroup& group, DebugRules& rules) {
  if (name == kInjectErrorGroup) {
    ASSIGN_OR_RETURN(rules.inject_errors.emplace_back(), InjectErrorOf(group));
  } else {
    ASSIGN_OR_RETURN(rules.set_states.emplace_back(), SetStateOf(group));
  }
  return absl::OkStatus();
}

}  // namespace ringcow
