#ifndef RINGCOW_BENCH_COSTS_H_
#define RINGCOW_BENCH_COSTS_H_

#include <map>
#include <string>

#include "bench/subject.h"

namespace ringcow {

// What one request of the run cost on average, by name ("sqes_per_op"): what the host was asked to
// do, and what the heap was.
std::map<std::string, double> CostsPerOp(const Measured& measured);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_COSTS_H_
