#ifndef RINGCOW_CLI_IO_ARGUMENTS_H_
#define RINGCOW_CLI_IO_ARGUMENTS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/io/session.h"

namespace ringcow {

// The words of a command, read as getopt reads them. One at a time, since getopt's state is the
// process's.
class IoArguments {
 public:
  // `options` as getopt takes them.
  IoArguments(const IoCommand& command, const char* options, std::vector<std::string> words);

  // The next option's letter; nothing when none is left, or when it is wrong, which was said.
  std::optional<int> Next();
  // Whether Next found a wrong one.
  bool failed() const { return failed_; }
  // What is not an option. After Next has returned nothing.
  std::span<char* const> rest() const;

 private:
  const IoCommand& command_;
  const char* const options_;
  std::vector<std::string> words_;
  std::vector<char*> pointers_;
  bool failed_ = false;
};

// A number of bytes. Nothing, and a complaint, for what is none.
std::optional<uint64_t> ParseIoSize(const char* text);

// QEMU's bound of one request: whole sectors in a signed 32-bit number.
inline constexpr uint64_t kMaxTransferBytes = 0x7ffffe00;

}  // namespace ringcow

#endif  // RINGCOW_CLI_IO_ARGUMENTS_H_
