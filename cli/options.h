#ifndef RINGCOW_CLI_OPTIONS_H_
#define RINGCOW_CLI_OPTIONS_H_

#include <getopt.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/program.h"

namespace ringcow {

// One option of a command. Those without a letter have a key of kFirstLongOnlyKey or above.
struct OptionSpec {
  int key = 0;
  const char* name = nullptr;      // the long form
  const char* argument = nullptr;  // its name in the help; none: the option has no argument
  const char* help = nullptr;
  // Set for an option that QEMU has and this build lacks: why, as the end of "option '--x' ". It is
  // refused and not in the help, since an option that is taken and ignored misleads a script.
  const char* refusal = nullptr;
};
inline constexpr int kFirstLongOnlyKey = 256;
// What OptionParser::Next answers when the command line is wrong.
inline constexpr int kBadOption = '?';

// Reads the options of one command as getopt_long does: abbreviations of long options, clusters of
// short ones, arguments between options, "--". One at a time, since getopt's state is the
// process's.
class OptionParser {
 public:
  // argv[0] is not looked at. All but `program` must outlive the parser; argv gets permuted.
  OptionParser(const Program& program, std::span<const OptionSpec> specs, int argc, char** argv);

  // The next option's key; nothing when none is left. kBadOption: the complaint is on stderr.
  std::optional<int> Next();
  // The argument of what Next returned, if it has one.
  const char* argument() const { return optarg; }
  // What is not an option. After Next has returned nothing.
  std::span<char*> rest() const;

 private:
  const Program& program_;
  const std::span<const OptionSpec> specs_;
  const int argc_;
  char** const argv_;
  std::string invocation_;  // argv[0] of getopt's messages
  std::string short_options_;
  std::vector<option> long_options_;
};

// The lines of a help text that describe `specs`.
std::string DescribeOptions(std::span<const OptionSpec> specs);

}  // namespace ringcow

#endif  // RINGCOW_CLI_OPTIONS_H_
