#include <getopt.h>

#include "absl/strings/str_format.h"
#include "cli/io/arguments.h"
#include "cli/io/open_options.h"
#include "cli/io/session.h"
#include "cli/option_string.h"

namespace ringcow {
namespace {

bool SayWhether(const Session& session, const absl::Status& status) {
  if (!status.ok()) session.program().Error(MessageOf(status));
  return status.ok();
}

// -o: of what a driver can be told, its name.
absl::Status SetDriverOptions(const char* text, TargetOptions& options) {
  const auto given = ParseOptionString(text);
  if (!given.has_value()) {
    return absl::InvalidArgumentError(absl::StrFormat("Invalid option list: %s", text));
  }
  for (const NamedValue& option : *given) {
    if (option.name != "driver") {
      return absl::UnimplementedError(
          absl::StrFormat("option '%s' of an image is not supported yet", option.name));
    }
    options.format = option.value.value_or("");
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
  if (arguments.rest().size() != 1) {
    absl::PrintF("%s\n", Usage(kOpen));
    co_return false;
  }
  co_return SayWhether(session, co_await session.Open(arguments.rest()[0], options));
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
        set = absl::UnimplementedError("option '-o' is not supported yet");
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
    .synopsis = "[-rsCnU] [-t cache] [-d discard] [-o driver=format] path",
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
    .synopsis = "[(-r|-w)] [-c cache]",
    .summary = "reopens an image with new options",
    .run = RunReopen,
};

}  // namespace ringcow
