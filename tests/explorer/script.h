#ifndef RINGCOW_TESTS_EXPLORER_SCRIPT_H_
#define RINGCOW_TESTS_EXPLORER_SCRIPT_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tests/explorer/operation.h"
#include "tests/explorer/scenario.h"

namespace ringcow {

// One operation of one worker.
struct Step {
  size_t worker = 0;
  const Operation* operation = nullptr;
  UnitRange range;
};

// What all workers do, each its own steps in order, side by side with the others. Any part of a
// script is a script: that is how a failure is made small.
using Script = std::vector<Step>;

// The script that the scenario's seed stands for. Workers have units of their own, but share
// clusters and tables.
Script MakeScript(const Scenario& scenario);

// "0:write@12+4 1:flush": worker, operation, first unit, number of units.
std::string ToString(const Script& script);
// InvalidArgument for what is none, or does not fit into a disk of so many units.
absl::StatusOr<Script> ParseScript(absl::string_view text, uint64_t units);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_SCRIPT_H_
