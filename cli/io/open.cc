#include <getopt.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "cli/io/arguments.h"
#include "cli/io/open_options.h"
#include "cli/io/session.h"
#include "cli/option_string.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

bool SayWhether(const Session& session, const absl::Status& status) {
  if (!status.ok()) session.program().Error(MessageOf(status));
  return status.ok();
}

// -o
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

// What an open image can be told.
bool CanChange(absl::string_view option) {
  constexpr absl::string_view kNames[] = {"lazy-refcounts",
                                          "overlap-check",
                                          "discard",
                                          "discard-no-unref",
                                          "pass-discard-request",
                                          "pass-discard-snapshot",
                                          "cache-size",
                                          "l2-cache-size",
                                          "pass-discard-other",
                                          "l2-cache-entry-size",
                                          "refcount-cache-size",
                                          "cache-clean-interval",
                                          "read-only",
                                          "auto-read-only",
                                          "detect-zeroes",
                                          "backing"};
  return std::find(std::begin(kNames), std::end(kNames), option) != std::end(kNames) ||
         absl::StartsWith(option, "overlap-check.") || absl::StartsWith(option, "cache.");
}

using DriverOptions = std::map<std::string, std::string>;

// What was said before and does not go together with what is said now is forgotten, as in QEMU.
void ForgetContradictions(const DriverOptions& changes, DriverOptions& options) {
  if (changes.contains("overlap-check") || changes.contains("overlap-check.template")) {
    options.erase("overlap-check");
    options.erase("overlap-check.template");
  }
  const bool has_both = changes.contains("cache-size");
  const bool has_l2 = changes.contains("l2-cache-size");
  const bool has_refcounts = changes.contains("refcount-cache-size");
  if (has_both) {
    options.erase("l2-cache-size");
    options.erase("refcount-cache-size");
  } else if ((has_l2 || options.contains("l2-cache-size")) &&
             (has_refcounts || options.contains("refcount-cache-size"))) {
    options.erase("cache-size");
  }
}

absl::Status ChangeDriverOptions(const char* text, TargetOptions& options) {
  TargetOptions changes;
  RETURN_IF_ERROR(SetDriverOptions(text, changes));
  ForgetContradictions(changes.driver_options, options.driver_options);
  for (const auto& [name, value] : changes.driver_options) {
    if (!CanChange(name)) {
      return absl::InvalidArgumentError(absl::StrFormat("Cannot change the option '%s'", name));
    }
    options.driver_options[name] = value;
  }
  return absl::OkStatus();
}

absl::Status SetOption(int key, TargetOptions& options) {
  switch (key) {
    case 'k':
      return absl::UnimplementedError(absl::StrFormat("option '-%c' is not supported yet", key));
    case 'o':
      return SetDriverOptions(optarg, options);
    default:
      return SetOpenOption(key, optarg, options);
  }
}

Task<bool> RunOpen(Session& session, std::vector<std::string> words) {
  IoArguments arguments(kOpen, "snCro:ki:t:d:U", std::move(words));
  TargetOptions options = DefaultOpenOptions();
  while (const std::optional<int> key = arguments.Next()) {
    if (!SayWhether(session, SetOption(*key, options))) co_return false;
  }
  if (arguments.failed()) co_return false;
  const std::span<char* const> names = arguments.rest();
  options.image_options = names.empty() && !options.driver_options.empty();
  if (names.size() != 1 && !options.image_options) {
    absl::PrintF("%s\n", Usage(kOpen));
    co_return false;
  }
  const std::string name = names.empty() ? "" : names[0];
  co_return SayWhether(session, co_await session.Open(name, options));
}

Task<bool> RunClose(Session& session, std::vector<std::string> /*words*/) {
  co_return SayWhether(session, co_await session.Close());
}

Task<bool> RunReopen(Session& session, std::vector<std::string> words) {
  IoArguments arguments(kReopen, "c:o:rw", std::move(words));
  TargetOptions options = session.options();
  bool has_direction = false;
  while (const std::optional<int> key = arguments.Next()) {
    absl::Status set;
    switch (*key) {
      case 'c':
        set = SetOpenOption('t', optarg, options);
        break;
      case 'r':
      case 'w':
        if (has_direction) set = absl::InvalidArgumentError("Only one -r/-w option may be given");
        has_direction = true;
        options.read_only = *key == 'r';
        break;
      default:
        set = ChangeDriverOptions(optarg, options);
    }
    if (!SayWhether(session, set)) co_return false;
  }
  if (arguments.failed()) co_return false;
  if (!arguments.rest().empty()) {
    absl::PrintF("%s\n", Usage(kReopen));
    co_return false;
  }
  co_return SayWhether(session, co_await session.Reopen(options));
}

}  // namespace

const IoCommand kOpen = {
    .name = "open",
    .alias = "o",
    .min_arguments = 1,
    .max_arguments = -1,
    .synopsis = "[-rsCnU] [-t cache] [-d discard] [-o options] path",
    .summary = "open the file specified by path",
    .needs_image = false,
    .run = RunOpen,
};

const IoCommand kClose = {
    .name = "close",
    .alias = "c",
    .summary = "close the current open file",
    .run = RunClose,
};

const IoCommand kReopen = {
    .name = "reopen",
    .max_arguments = -1,
    .synopsis = "[(-r|-w)] [-c cache] [-o options]",
    .summary = "reopens an image with new options",
    .run = RunReopen,
};

}  // namespace ringcow
