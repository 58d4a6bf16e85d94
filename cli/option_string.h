#ifndef RINGCOW_CLI_OPTION_STRING_H_
#define RINGCOW_CLI_OPTION_STRING_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace ringcow {

// One of a list such as that of `create -o`: "size=1G,lazy_refcounts=on,compat=1.1".
struct NamedValue {
  std::string name;
  std::optional<std::string> value;  // nothing: the name stood alone, which switches a flag on
};

// Splits at commas; a doubled comma stands for a comma in a value. A list that is empty, begins
// with a comma or ends with a single one is none: nothing.
std::optional<std::vector<NamedValue>> ParseOptionString(absl::string_view text);

// Whether help on the options is one of them.
bool AsksForHelp(const std::vector<NamedValue>& options);

// The value as it would have to be written in a list: commas doubled.
std::string EscapeOptionValue(absl::string_view value);

}  // namespace ringcow

#endif  // RINGCOW_CLI_OPTION_STRING_H_
