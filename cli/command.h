#ifndef RINGCOW_CLI_COMMAND_H_
#define RINGCOW_CLI_COMMAND_H_

#include <span>

#include "cli/options.h"
#include "cli/program.h"

namespace ringcow {

// One subcommand of qemu-img, or qemu-io.
struct Command {
  const char* name;
  const char* summary;    // a sentence without its full stop
  const char* arguments;  // what follows the options: "FILE [SIZE]"
  std::span<const OptionSpec> options;
  // argv[0] stands for the command; the result is the exit status.
  int (*run)(const Program& program, int argc, char** argv);
};

// Each is defined in the file of its name.
extern const Command kAmendCommand;
extern const Command kBenchCommand;
extern const Command kBitmapCommand;
extern const Command kCheckCommand;
extern const Command kCommitCommand;
extern const Command kCompareCommand;
extern const Command kConvertCommand;
extern const Command kCreateCommand;
extern const Command kDdCommand;
extern const Command kInfoCommand;
extern const Command kIoCommand;
extern const Command kMapCommand;
extern const Command kMeasureCommand;
extern const Command kRebaseCommand;
extern const Command kResizeCommand;
extern const Command kSnapshotCommand;

// Prints the help of one command on stdout. Returns the exit status.
int PrintHelp(const Program& program, const Command& command);
int PrintVersion(const Program& program);

}  // namespace ringcow

#endif  // RINGCOW_CLI_COMMAND_H_
