#include <getopt.h>

#include "absl/strings/str_format.h"
#include "cli/io/arguments.h"
#include "cli/io/open_options.h"
#include "cli/io/session.h"

namespace ringcow {
namespace {

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
    if (!session.Say(SetOption(*key, options))) co_return false;
  }
  if (arguments.failed()) co_return false;
  const std::span<char* const> names = arguments.rest();
  options.image_options = names.empty() && !options.driver_options.empty();
  if (names.size() != 1 && !options.image_options) {
    absl::PrintF("%s\n", Usage(kOpen));
    co_return false;
  }
  const std::string name = names.empty() ? "" : names[0];
  co_return session.Say(co_await session.Open(name, options));
}

Task<bool> RunClose(Session& session, std::vector<std::string> /*words*/) {
  co_return session.Say(co_await session.Close());
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

}  // namespace ringcow
