#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/program.h"

namespace ringcow {
namespace {

constexpr OptionSpec kOptions[] = {
    {'h', "help", nullptr, "print this help and exit"},
    {'V', "version", nullptr, "print the version and exit"},
    {'T', "trace", "TRACE", nullptr, "is not supported: there are no trace events"},
};

// kIoCommand is the last: qemu-img does not have it.
const std::array<const Command*, 16> kCommands = {
    &kAmendCommand,  &kBenchCommand,   &kBitmapCommand,   &kCheckCommand,
    &kCommitCommand, &kCompareCommand, &kConvertCommand,  &kCreateCommand,
    &kDdCommand,     &kInfoCommand,    &kMapCommand,      &kMeasureCommand,
    &kRebaseCommand, &kResizeCommand,  &kSnapshotCommand, &kIoCommand};

std::span<const Command* const> CommandsOf(const Program& program) {
  const std::span<const Command* const> all(kCommands);
  return program.name() == "qemu-img" ? all.first(all.size() - 1) : all;
}

int PrintOverview(const Program& program) {
  PrintVersion(program);
  absl::PrintF(
      "A tool for qcow2 and raw disk images.\n\n"
      "Usage: %s [OPTION]... COMMAND [--help | OPTION...]\n\n%s\nCommands:\n",
      program.name(), DescribeOptions(kOptions));
  for (const Command* command : CommandsOf(program)) {
    absl::PrintF("  %-8s  %s\n", command->name, command->summary);
  }
  return EXIT_SUCCESS;
}

int RunCommand(const Program& program, int argc, char** argv) {
  const absl::string_view name = argv[0];
  for (const Command* command : CommandsOf(program)) {
    if (name == command->name) {
      return command->run(Program(program.name(), command->name), argc, argv);
    }
  }
  return program.Misused(absl::StrCat("Command not found: ", name));
}

// Whether the next word is the argument of this one.
bool HasArgument(absl::string_view word) {
  return std::ranges::any_of(kOptions, [word](const OptionSpec& option) {
    if (option.argument == nullptr) return false;
    return word == absl::StrFormat("-%c", option.key) || word == absl::StrCat("--", option.name);
  });
}

int RunImageTool(const Program& program, int argc, char** argv) {
  // What follows the command is the command's: the options before it are looked at alone.
  int own = 1;
  while (own < argc && argv[own][0] == '-') own += HasArgument(argv[own]) ? 2 : 1;
  own = std::min(own, argc);
  char* const command = own < argc ? argv[own] : nullptr;
  argv[own] = nullptr;
  OptionParser options(program, kOptions, own, argv);
  while (const std::optional<int> option = options.Next()) {
    if (option == 'h') return PrintOverview(program);
    if (option == 'V') return PrintVersion(program);
    return EXIT_FAILURE;
  }
  argv[own] = command;
  if (command == nullptr) return program.Misused("Not enough arguments");
  return RunCommand(program, argc - own, argv + own);
}

int Run(int argc, char** argv) {
  if (argc < 1) return EXIT_FAILURE;
  const absl::string_view path = argv[0];
  const Program program(std::string(path.substr(path.find_last_of('/') + 1)));
  int status = program.name() == "qemu-io" ? kIoCommand.run(program, argc, argv)
                                           : RunImageTool(program, argc, argv);
  // A full disk under stdout shows here at the latest; a script must not take half an answer.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    status = program.Fail(absl::StrCat("Could not write the output: ", std::strerror(errno)));
  }
  return status;
}

}  // namespace
}  // namespace ringcow

int main(int argc, char** argv) {
  // A file that may not become larger (ulimit -f) is an error like any other: EFBIG.
  (void)std::signal(SIGXFSZ, SIG_IGN);
  return ringcow::Run(argc, argv);
}
