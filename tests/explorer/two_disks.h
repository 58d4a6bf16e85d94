#ifndef RINGCOW_TESTS_EXPLORER_TWO_DISKS_H_
#define RINGCOW_TESTS_EXPLORER_TWO_DISKS_H_

#include <cstddef>
#include <string>

#include "absl/functional/function_ref.h"
#include "engine/testing/disk_image.h"
#include "engine/testing/disk_trace.h"
#include "tests/explorer/crash_states.h"

namespace ringcow {

// What two disks hold: those of an image and its data file, or its backing file.
struct TwoDisks {
  DiskImage first;
  DiskImage second;
};

// What happened to two disks that share their time: their traces have the same positions.
struct TwoTraces {
  const DiskTrace& first;
  const DiskTrace& second;
};

// What a state is measured by.
struct PromiseOfTwo {
  // How much was promised before a position of the traces. A state is judged once for each value.
  absl::FunctionRef<size_t(size_t position)> made;
  // What is wrong with a state that a power cut at `position` left; empty if nothing is.
  absl::FunctionRef<std::string(const TwoDisks& state, size_t position)> judge;
};

// Cuts the power of both disks at once at every point of their traces: FirstViolation for two.
std::string FirstViolationOfTwo(const TwoTraces& traces, const TwoDisks& prepared,
                                const StateBudget& budget, size_t& states,
                                const PromiseOfTwo& promise);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_TWO_DISKS_H_
