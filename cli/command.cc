#include "cli/command.h"

#include <cstdlib>

#include "absl/strings/str_format.h"

namespace ringcow {

int PrintHelp(const Program& program, const Command& command) {
  absl::PrintF("Usage: %s [OPTION]... %s\n\n%s.\n\n%s", program.invocation(), command.arguments,
               command.summary, DescribeOptions(command.options));
  return EXIT_SUCCESS;
}

int PrintVersion(const Program& program) {
  if (program.name() == "ringcow") {
    absl::PrintF("ringcow version %s\n", kVersion);
  } else {
    absl::PrintF("%s version %s (ringcow)\n", program.name(), kVersion);
  }
  return EXIT_SUCCESS;
}

}  // namespace ringcow
