#include "tests/explorer/first_violation.h"

#include <cstdint>
#include <random>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/testing/crash_point.h"
#include "tests/explorer/remnant.h"

namespace ringcow {

std::string FirstViolation(const DiskTrace& trace, const DiskImage& prepared,
                           const StateBudget& budget, size_t& states,
                           absl::FunctionRef<std::string(const DiskImage& state)> judge) {
  std::mt19937_64 random(1);
  absl::flat_hash_set<uint64_t> judged;
  std::string violation;
  CrashPoint point(trace, prepared);
  do {
    ForEachCrash(point, budget, random, [&](const Remnants& remnants) {
      const DiskImage state = StateOf(point, remnants);
      if (!judged.insert(state.Fingerprint()).second) return true;
      ++states;
      violation = judge(state);
      if (!violation.empty()) {
        violation = absl::StrCat("crash after event ", point.position(), ": ", violation, "\n",
                                 Describe(point, remnants));
      }
      return violation.empty();
    });
  } while (violation.empty() && point.Advance());
  return violation;
}

}  // namespace ringcow
