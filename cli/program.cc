#include "cli/program.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "qcow2/corruption.h"

namespace ringcow {

std::string Program::invocation() const {
  return subcommand_.empty() ? name_ : absl::StrCat(name_, " ", subcommand_);
}

void Program::Error(absl::string_view message) const {
  // What went to stdout before belongs before it also where both go to one file.
  (void)std::fflush(stdout);
  absl::FPrintF(stderr, "%s: %s\n", name_, message);
}

int Program::Fail(absl::string_view message) const {
  Error(message);
  return EXIT_FAILURE;
}

int Program::Fail(const absl::Status& status) const { return Fail(MessageOf(status)); }

int Program::Misused(absl::string_view message) const {
  Error(message);
  SayWhereHelpIs();
  return EXIT_FAILURE;
}

void Program::SayWhereHelpIs() const {
  absl::FPrintF(stderr, "Try '%s --help' for more info\n", invocation());
}

std::string MessageOf(const absl::Status& status) {
  return WasTold(status) ? std::strerror(ErrnoOf(status)) : std::string(status.message());
}

}  // namespace ringcow
