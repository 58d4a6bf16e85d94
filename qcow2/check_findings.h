#ifndef RINGCOW_QCOW2_CHECK_FINDINGS_H_
#define RINGCOW_QCOW2_CHECK_FINDINGS_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "qcow2/check.h"

namespace ringcow {

// What a check found so far: the counts, and the way to report a line for each finding.
//
// A table that several others point to is looked at once, with the number of ways that lead to it:
// its findings are counted and (within reason) reported as often as a walk along every way would
// do. Counts stick at their maximum, for a hostile image can multiply them beyond 64 bits.
class Findings {
 public:
  explicit Findings(CheckOptions options) : options_(std::move(options)) {}

  void Corruption(absl::string_view line, uint64_t times = 1) {
    Add(result.corruptions, times);
    Report(line, times);
  }
  void Leak(absl::string_view line) {
    Add(result.leaks, 1);
    Report(line);
  }
  void Error(absl::string_view line) {
    Add(result.check_errors, 1);
    Report(line);
  }
  void FixedCorruption(absl::string_view line) {
    Add(result.corruptions_fixed, 1);
    Report(line);
  }
  void FixedLeak(absl::string_view line) {
    Add(result.leaks_fixed, 1);
    Report(line);
  }
  // The walk cannot go on, because of what was reported, or for this reason; `error` is an errno.
  void Stop(int error, std::string reason = "") {
    Add(result.check_errors, 1);
    result.stopped_by = error;
    result.stop_reason = std::move(reason);
  }

  void Report(absl::string_view line, uint64_t times = 1) const {
    for (uint64_t i = 0; i < std::min(times, kMaxRepeats); ++i) options_.report(line);
  }

  static void Add(uint64_t& count, uint64_t times) {
    if (__builtin_add_overflow(count, times, &count)) count = std::numeric_limits<uint64_t>::max();
  }

  CheckResult result;

 private:
  static constexpr uint64_t kMaxRepeats = 16;

  const CheckOptions options_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHECK_FINDINGS_H_
