#include <getopt.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/io/arguments.h"
#include "cli/io/session.h"
#include "cli/resize_target.h"

namespace ringcow {
namespace {

Task<bool> RunTruncate(Session& session, std::vector<std::string> words) {
  IoArguments arguments(kTruncate, "m:", std::move(words));
  Preallocation preallocation = Preallocation::kOff;
  while (arguments.Next().has_value()) {
    const absl::StatusOr<Preallocation> mode = ParsePreallocation(optarg);
    if (!mode.ok()) {
      session.program().Error(absl::StrCat("Invalid preallocation mode '", optarg, "'"));
      co_return false;
    }
    preallocation = *mode;
  }
  if (arguments.failed()) co_return false;
  if (arguments.rest().size() != 1) {
    absl::PrintF("%s\n", Usage(kTruncate));
    co_return false;
  }
  const std::optional<uint64_t> size = ParseIoSize(arguments.rest()[0]);
  if (!size.has_value()) co_return false;
  const absl::Status status = co_await ResizeTarget(session.target(), *size, preallocation);
  if (!status.ok()) session.program().Error(MessageOf(status));
  co_return status.ok();
}

}  // namespace

const IoCommand kTruncate = {
    .name = "truncate",
    .alias = "t",
    .min_arguments = 1,
    .max_arguments = 3,
    .synopsis = "[-m prealloc_mode] off",
    .summary = "truncates the current file at the given offset",
    .writes = true,
    .run = RunTruncate,
};

}  // namespace ringcow
