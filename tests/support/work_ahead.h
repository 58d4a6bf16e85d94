#ifndef RINGCOW_TESTS_SUPPORT_WORK_AHEAD_H_
#define RINGCOW_TESTS_SUPPORT_WORK_AHEAD_H_

#include <random>
#include <string>

#include "absl/strings/str_format.h"
#include "qcow2/image.h"

namespace ringcow {

// Switches each kind of work that is done ahead of need on (mostly) or off.
inline void SwitchWorkAhead(OpenOptions& options, std::mt19937_64& random) {
  for (bool* const is_on :
       {&options.grow_ahead, &options.reserve_refcounts, &options.record_reserve,
        &options.write_zeroes_ahead, &options.enter_zero_clusters_early}) {
    *is_on = random() % 4 != 0;
  }
}

// For those who replay a failure.
inline std::string WorkAheadOf(const OpenOptions& options) {
  return absl::StrFormat(
      "growing ahead %d, reserving %d, recording %d, zeroing %d, entering early %d",
      options.grow_ahead, options.reserve_refcounts, options.record_reserve,
      options.write_zeroes_ahead, options.enter_zero_clusters_early);
}

}  // namespace ringcow

#endif  // RINGCOW_TESTS_SUPPORT_WORK_AHEAD_H_
