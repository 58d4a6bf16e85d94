#ifndef RINGCOW_CLI_PROGRAM_H_
#define RINGCOW_CLI_PROGRAM_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ringcow {

inline constexpr absl::string_view kVersion = "0.1.0";

// Under which name the program runs, which every message begins with, and which subcommand of it:
// ("qemu-img", "create"), ("ringcow", "io"), or ("qemu-io", "").
class Program {
 public:
  explicit Program(std::string name, std::string subcommand = "")
      : name_(std::move(name)), subcommand_(std::move(subcommand)) {}

  const std::string& name() const { return name_; }
  // What a user types to get here: "qemu-img create".
  std::string invocation() const;

  // One message on stderr, behind the name.
  void Error(absl::string_view message) const;

  // Error, then the exit status of a failure.
  int Fail(absl::string_view message) const;
  int Fail(const absl::Status& status) const;
  // The same for a wrong command line; says where help is.
  int Misused(absl::string_view message) const;
  void SayWhereHelpIs() const;

 private:
  std::string name_;
  std::string subcommand_;
};

// The status's message; of damage that was told of (see CorruptionNotice) only the errno.
// absl::string_view and absl::Status disagree about whose view it is.
std::string MessageOf(const absl::Status& status);

}  // namespace ringcow

#endif  // RINGCOW_CLI_PROGRAM_H_
