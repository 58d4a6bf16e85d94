#include "cli/option_string.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"

namespace ringcow {
namespace {

bool IsList(absl::string_view text) {
  if (text.empty() || text.front() == ',') return false;
  size_t commas_at_end = 0;
  while (text[text.size() - 1 - commas_at_end] == ',') ++commas_at_end;
  return commas_at_end % 2 == 0;
}

// Takes up to the next single comma, and that comma.
std::string TakeItem(absl::string_view& text) {
  std::string item;
  while (!text.empty()) {
    const bool doubled = absl::StartsWith(text, ",,");
    if (text.front() == ',' && !doubled) {
      text.remove_prefix(1);
      break;
    }
    item += text.front();
    text.remove_prefix(doubled ? 2 : 1);
  }
  return item;
}

}  // namespace

std::optional<std::vector<NamedValue>> ParseOptionString(absl::string_view text) {
  if (!IsList(text)) return std::nullopt;
  std::vector<NamedValue> values;
  while (!text.empty()) {
    const std::string item = TakeItem(text);
    const size_t equals = item.find('=');
    if (equals == std::string::npos) {
      values.push_back({item, std::nullopt});
    } else {
      values.push_back({item.substr(0, equals), item.substr(equals + 1)});
    }
  }
  return values;
}

bool AsksForHelp(const std::vector<NamedValue>& options) {
  return std::any_of(options.begin(), options.end(), [](const NamedValue& option) {
    return !option.value.has_value() && (option.name == "help" || option.name == "?");
  });
}

std::string EscapeOptionValue(absl::string_view value) {
  return absl::StrReplaceAll(value, {{",", ",,"}});
}

}  // namespace ringcow
