#include "cli/io/open_options.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "cli/option_string.h"

namespace ringcow {
namespace {

template <typename T>
absl::Status SetMode(const std::optional<T>& parsed, absl::string_view kind, const char* argument,
                     T& mode) {
  if (!parsed.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("Invalid ", kind, " option: ", argument));
  }
  mode = *parsed;
  return absl::OkStatus();
}

// It makes no difference to anything that a test can see: all I/O goes through io_uring.
absl::Status CheckAio(absl::string_view mode) {
  if (mode == "threads" || mode == "native" || mode == "io_uring") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("Invalid aio option: ", mode));
}

}  // namespace

absl::Status SetOpenOption(int key, const char* argument, TargetOptions& options) {
  switch (key) {
    case 'r':
      options.read_only = true;
      break;
    case 'n':
      options.cache = {.direct = true};
      break;
    case 't':
      return SetMode(ParseCacheMode(argument), "cache", argument, options.cache);
    case 'd':
      return SetMode(ParseDiscardMode(argument), "discard", argument, options.discard);
    case 'i':
      return CheckAio(argument);
    case 'C':
      options.copy_on_read = true;
      break;
    case 's':
      options.temporary = true;
      break;
    case 'U':
      options.force_share = true;
      break;
    default:
      break;
  }
  return absl::OkStatus();
}

absl::Status SetDriverOptions(const char* text, TargetOptions& options) {
  const auto given = ParseOptionString(text);
  if (!given.has_value()) {
    return absl::InvalidArgumentError(absl::StrFormat("Invalid option list: %s", text));
  }
  for (const NamedValue& option : *given) {
    options.driver_options[option.name] = option.value.value_or("on");
  }
  return absl::OkStatus();
}

}  // namespace ringcow
