#ifndef RINGCOW_BENCH_SUBPROCESS_H_
#define RINGCOW_BENCH_SUBPROCESS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ringcow {

struct SubprocessResult {
  int exit_code = 0;   // 128 + the signal that ended it, as shells say it
  std::string output;  // stdout and stderr, as they came
};

// Runs `command` (looked up in PATH) to its end, with no signal blocked. NotFound when there is no
// such program. It is killed when this process dies.
absl::StatusOr<SubprocessResult> RunSubprocess(const std::vector<std::string>& command);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_SUBPROCESS_H_
