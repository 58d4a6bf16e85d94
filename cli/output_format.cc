#include "cli/output_format.h"

#include "absl/strings/str_format.h"

namespace ringcow {

std::optional<OutputFormat> ParseOutputFormat(const Program& program, absl::string_view name) {
  if (name == "human") return OutputFormat::kHuman;
  if (name == "json") return OutputFormat::kJson;
  program.Misused(absl::StrFormat("--output expects 'human' or 'json' not '%s'", name));
  return std::nullopt;
}

}  // namespace ringcow
