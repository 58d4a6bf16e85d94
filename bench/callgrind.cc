#include "bench/callgrind.h"

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "bench/subprocess.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

// The number behind `label`, with or without blanks between.
bool NumberBehind(absl::string_view text, absl::string_view label, uint64_t& number) {
  const size_t at = text.find(label);
  if (at == absl::string_view::npos) return false;
  text.remove_prefix(at + label.size());
  const size_t begin = text.find_first_not_of(' ');
  if (begin == absl::string_view::npos) return false;
  text.remove_prefix(begin);
  return absl::SimpleAtoi(text.substr(0, text.find_first_not_of("0123456789")), &number);
}

}  // namespace

std::optional<CountedRun> ParseCountedRun(absl::string_view output) {
  CountedRun run;
  if (NumberBehind(output, "Collected :", run.instructions) &&
      NumberBehind(output, "requests ", run.requests) && run.requests > 0 &&
      NumberBehind(output, "heap_allocations ", run.heap_allocations) &&
      NumberBehind(output, "turns ", run.turns)) {
    return run;
  }
  return std::nullopt;
}

absl::StatusOr<CountedRun> CountInstructions(const std::string& program,
                                             const std::string& case_name) {
  ASSIGN_OR_RETURN(const SubprocessResult result,
                   RunSubprocess({"valgrind", "--tool=callgrind", "--collect-atstart=no",
                                  "--toggle-collect=RingcowMeasuredPart",
                                  "--callgrind-out-file=/dev/null", program, case_name}));
  const std::optional<CountedRun> run = ParseCountedRun(result.output);
  if (result.exit_code == 0 && run.has_value() && run->instructions > 0) return *run;
  return absl::InternalError(absl::StrCat("callgrind of '", case_name, "' ended with ",
                                          result.exit_code, ": ", result.output));
}

}  // namespace ringcow
