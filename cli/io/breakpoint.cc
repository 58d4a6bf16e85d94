#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "cli/io/session.h"

namespace ringcow {
namespace {

Breakpoints* BreakpointsOf(const Session& session) {
  BlkdebugDisk* const blkdebug = session.target().chain().blkdebug();
  return blkdebug == nullptr ? nullptr : &blkdebug->breakpoints();
}

// What could not be done, and why: there is no such thing, or no blkdebug.
bool Failed(const char* what, const Breakpoints* breakpoints) {
  absl::PrintF("Could not %s: %s\n", what,
               std::strerror(breakpoints == nullptr ? ENOTSUP : ENOENT));
  return false;
}

Task<bool> RunBreak(Session& session, std::vector<std::string> words) {
  Breakpoints* const breakpoints = BreakpointsOf(session);
  const absl::StatusOr<DebugEvent> event = ParseDebugEvent(words[1]);
  if (breakpoints == nullptr || absl::IsInvalidArgument(event.status())) {
    co_return Failed("set breakpoint", breakpoints);
  }
  const auto print = [](const char* what) {
    return
        [what](absl::string_view tag) { absl::PrintF("blkdebug: %s request '%s'\n", what, tag); };
  };
  if (event.ok() && breakpoints->Set(*event, words[2], print("Suspended"), print("Resuming"))) {
    co_return true;
  }
  absl::PrintF("Could not set breakpoint: no request stops at '%s' in ringcow\n", words[1]);
  co_return false;
}

Task<bool> RunRemoveBreak(Session& session, std::vector<std::string> words) {
  Breakpoints* const breakpoints = BreakpointsOf(session);
  if (breakpoints != nullptr && breakpoints->Remove(words[1])) co_return true;
  co_return Failed(absl::StrFormat("remove breakpoint %s", words[1]).c_str(), breakpoints);
}

Task<bool> RunResume(Session& session, std::vector<std::string> words) {
  Breakpoints* const breakpoints = BreakpointsOf(session);
  if (breakpoints != nullptr && breakpoints->Resume(words[1])) co_return true;
  co_return Failed("resume request", breakpoints);
}

Task<bool> RunWaitBreak(Session& session, std::vector<std::string> words) {
  Breakpoints* const breakpoints = BreakpointsOf(session);
  if (breakpoints == nullptr) co_return Failed("wait for breakpoint", breakpoints);
  if (co_await breakpoints->WaitFor(words[1])) co_return true;
  absl::PrintF("Could not wait for breakpoint: nothing is left that could stop at '%s'\n",
               words[1]);
  co_return false;
}

}  // namespace

const IoCommand kBreak = {
    .name = "break",
    .min_arguments = 2,
    .max_arguments = 2,
    .synopsis = "event tag",
    .summary = "sets a breakpoint on event and tags the stopped request as tag",
    .run = RunBreak,
};

const IoCommand kRemoveBreak = {
    .name = "remove_break",
    .min_arguments = 1,
    .max_arguments = 1,
    .synopsis = "tag",
    .summary = "remove a breakpoint by tag",
    .run = RunRemoveBreak,
};

const IoCommand kResume = {
    .name = "resume",
    .min_arguments = 1,
    .max_arguments = 1,
    .synopsis = "tag",
    .summary = "resumes the request tagged as tag",
    .run = RunResume,
};

const IoCommand kWaitBreak = {
    .name = "wait_break",
    .min_arguments = 1,
    .max_arguments = 1,
    .synopsis = "tag",
    .summary = "waits for the suspension of a request",
    .run = RunWaitBreak,
};

}  // namespace ringcow
