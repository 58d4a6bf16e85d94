#ifndef RINGCOW_TESTS_EXPLORER_FIRST_VIOLATION_H_
#define RINGCOW_TESTS_EXPLORER_FIRST_VIOLATION_H_

#include <cstddef>
#include <string>

#include "absl/functional/function_ref.h"
#include "engine/testing/disk_image.h"
#include "engine/testing/disk_trace.h"
#include "tests/explorer/crash_states.h"

namespace ringcow {

// Cuts the power at every point of the trace of a disk that held `prepared` before it, and lets
// `judge` say what is wrong with each state that this could leave, once: nothing, mostly. What it
// said of the first bad one, with what was lost there; empty when there is none. Adds to `states`,
// before each is judged.
std::string FirstViolation(const DiskTrace& trace, const DiskImage& prepared,
                           const StateBudget& budget, size_t& states,
                           absl::FunctionRef<std::string(const DiskImage& state)> judge);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_FIRST_VIOLATION_H_
