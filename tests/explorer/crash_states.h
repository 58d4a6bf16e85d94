#ifndef RINGCOW_TESTS_EXPLORER_CRASH_STATES_H_
#define RINGCOW_TESTS_EXPLORER_CRASH_STATES_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "absl/functional/function_ref.h"
#include "engine/testing/crash_point.h"
#include "tests/explorer/remnant.h"

namespace ringcow {

// How many states are built at one point of a trace.
struct StateBudget {
  size_t subsets = 64;  // all of them, when there are no more
  size_t samples = 8;   // random ones, when there are more
  size_t torn = 24;     // with one or more torn changes
};

// What a crash at `point` may leave, without the repetitions that are easy to see. Whole changes:
// every subset while the budget allows, else none, all, each alone, each missing, every prefix, and
// samples. Torn ones: each change that can be torn in each way, the others all there, all gone or
// sampled; all of them, or samples. Ends early when `visit` says false.
void ForEachCrash(const CrashPoint& point, const StateBudget& budget, std::mt19937_64& random,
                  absl::FunctionRef<bool(const Remnants& remnants)> visit);
// The same for pending changes of any disks, of which the i-th has sectors[i] sectors.
void ForEachCrash(std::vector<uint64_t> sectors, const StateBudget& budget, std::mt19937_64& random,
                  absl::FunctionRef<bool(const Remnants& remnants)> visit);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_CRASH_STATES_H_
