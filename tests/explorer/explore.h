#ifndef RINGCOW_TESTS_EXPLORER_EXPLORE_H_
#define RINGCOW_TESTS_EXPLORER_EXPLORE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>

#include "engine/testing/disk_image.h"
#include "engine/testing/disk_trace.h"
#include "tests/explorer/crash_states.h"
#include "tests/explorer/remnant.h"
#include "tests/explorer/scenario_run.h"
#include "tests/explorer/verdict.h"

namespace ringcow {

struct ExploreOptions {
  uint64_t seed = 1;
  StateBudget budget;
  size_t max_states = std::numeric_limits<size_t>::max();
  // One of so many good states is written to (Judge::OfGoingOn); 0: none.
  size_t go_on_every = 50;
  // False goes on after the first violation, to count all of them.
  bool stop_at_violation = true;
  // Shown each good state, with the length of the trace when the power failed.
  std::function<void(const DiskImage& state, size_t position)> on_good_state;
};

// A crash that leaves what it must not.
struct Violation {
  size_t position = 0;  // events in the trace when the power failed
  Remnants remnants;
  Verdict verdict;
};

// What came of it.
struct Exploration {
  size_t built = 0;    // states, with repetitions
  size_t states = 0;   // judged, each different from all others under the same promises
  size_t gone_on = 0;  // of them written to
  std::array<size_t, 6> by_verdict{};
  std::optional<Violation> first_violation;

  size_t operator[](Verdict::Kind kind) const { return by_verdict[static_cast<size_t>(kind)]; }
  void Count(Verdict::Kind kind) { ++by_verdict[static_cast<size_t>(kind)]; }
};

// Cuts the power at every point of `trace`, builds what may then be on the disk, and judges each
// state by what the guest of `run` was promised. `trace` is that of run.disk(), or one with the
// same positions in which the disk did less than it said.
Exploration Explore(const ScenarioRun& run, const DiskTrace& trace, const ExploreOptions& options);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_EXPLORE_H_
