#ifndef RINGCOW_CLI_OUTPUT_FORMAT_H_
#define RINGCOW_CLI_OUTPUT_FORMAT_H_

#include <optional>

#include "absl/strings/string_view.h"
#include "cli/program.h"

namespace ringcow {

enum class OutputFormat { kHuman, kJson };

// The argument of --output; nothing, and a complaint on stderr, for any other.
std::optional<OutputFormat> ParseOutputFormat(const Program& program, absl::string_view name);

}  // namespace ringcow

#endif  // RINGCOW_CLI_OUTPUT_FORMAT_H_
