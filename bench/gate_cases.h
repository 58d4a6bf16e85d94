#ifndef RINGCOW_BENCH_GATE_CASES_H_
#define RINGCOW_BENCH_GATE_CASES_H_

#include <vector>

#include "bench/comparison.h"

namespace ringcow {

// What `./dev perf-gate` looks at: workloads of the catalog, smaller, always with the same
// requests.

// On a file, for what the host is asked to do.
std::vector<Case> GateCases();

// On a NullDisk, for the instructions of the engine itself.
std::vector<Case> InstructionCases();

}  // namespace ringcow

#endif  // RINGCOW_BENCH_GATE_CASES_H_
