#include "absl/strings/str_format.h"
#include "cli/io/session.h"

namespace ringcow {
namespace {

Task<bool> RunHelp(Session& /*session*/, std::vector<std::string> words) {
  if (words.size() > 1) {
    const IoCommand* command = FindIoCommand(words[1]);
    if (command == nullptr) {
      absl::PrintF("command %s not found\n", words[1]);
      co_return false;
    }
    absl::PrintF("%s\n", Usage(*command));
    co_return true;
  }
  for (const IoCommand* command : IoCommands()) absl::PrintF("%s\n", Usage(*command));
  absl::PrintF(
      "\nOptions: -c write compressed, -C report with commas, -f flush before the end,\n"
      "-P byte to write or to expect, -q no report,\n"
      "-s and -l part of the data to compare, -v dump the data. Sizes take k, M, G, T, P and E.\n");
  co_return true;
}

}  // namespace

const IoCommand kHelp = {
    .name = "help",
    .alias = "?",
    .max_arguments = 1,
    .synopsis = "[command]",
    .summary = "help for one or all commands",
    .needs_image = false,
    .run = RunHelp,
};

}  // namespace ringcow
