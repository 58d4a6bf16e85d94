#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "cli/io/arguments.h"
#include "cli/io/session.h"

namespace ringcow {
namespace {

// What the program would do if it crashed here: nothing is flushed or given back.
Task<bool> RunAbort(Session& /*session*/, std::vector<std::string> /*words*/) {
  std::abort();
  co_return false;
}

Task<bool> RunSigraise(Session& /*session*/, std::vector<std::string> words) {
  const std::optional<uint64_t> signal = ParseIoSize(words[1].c_str());
  if (!signal.has_value()) co_return false;
  (void)std::fflush(stdout);
  co_return raise(static_cast<int>(*signal)) == 0;
}

}  // namespace

const IoCommand kAbort = {
    .name = "abort",
    .summary = "simulate a program crash using abort(3)",
    .needs_image = false,
    .run = RunAbort,
};

const IoCommand kSigraise = {
    .name = "sigraise",
    .min_arguments = 1,
    .max_arguments = 1,
    .synopsis = "signal",
    .summary = "raises a signal",
    .needs_image = false,
    .run = RunSigraise,
};

}  // namespace ringcow
