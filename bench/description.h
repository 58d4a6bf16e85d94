#ifndef RINGCOW_BENCH_DESCRIPTION_H_
#define RINGCOW_BENCH_DESCRIPTION_H_

#include <string>

#include "bench/workload.h"

namespace ringcow {

// What the workload does, in words: "scattered 4 KiB writes, fresh image, a flush every 64".
std::string Describe(const Workload& workload);

// 1234567.4 -> "1,234,567"
std::string WithCommas(double value);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_DESCRIPTION_H_
