#include "absl/strings/str_format.h"
#include "cli/io/session.h"
#include "cli/sizes.h"

namespace ringcow {
namespace {

Task<bool> RunLength(Session& session, std::vector<std::string> /*words*/) {
  absl::PrintF("%s\n", PreciseSize(static_cast<double>(session.disk().size())));
  co_return true;
}

}  // namespace

const IoCommand kLength = {
    .name = "length",
    .alias = "l",
    .summary = "gets the length of the current file",
    .run = RunLength,
};

}  // namespace ringcow
