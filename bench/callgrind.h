#ifndef RINGCOW_BENCH_CALLGRIND_H_
#define RINGCOW_BENCH_CALLGRIND_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ringcow {

// One run of //bench:instructions under valgrind's callgrind.
struct CountedRun {
  uint64_t instructions = 0;
  uint64_t requests = 0;
  uint64_t heap_allocations = 0;
  uint64_t turns = 0;  // of the loop in which requests completed

  friend bool operator==(const CountedRun&, const CountedRun&) = default;
};

// Runs the program at path `program` for the case of this name. NotFound when there is no valgrind.
absl::StatusOr<CountedRun> CountInstructions(const std::string& program,
                                             const std::string& case_name);

// What the program and callgrind print, mixed. Nothing when a number is missing.
std::optional<CountedRun> ParseCountedRun(absl::string_view output);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_CALLGRIND_H_
