#ifndef RINGCOW_TESTS_EXPLORER_SHRINK_H_
#define RINGCOW_TESTS_EXPLORER_SHRINK_H_

#include <chrono>
#include <string>

#include "engine/testing/disk_image.h"
#include "tests/explorer/explore.h"
#include "tests/explorer/scenario.h"
#include "tests/explorer/script.h"

namespace ringcow {

// The fewest steps found of `script`, which fails in a Trial, with which it still fails. Tries for
// about so long: parts of the script are left out, large ones first, then single steps.
Script ShrinkScript(const Scenario& scenario, const DiskImage& prepared, Script script,
                    const ExploreOptions& options, std::chrono::milliseconds limit);

// The fewest surviving writes found at the violation's point that are a violation still.
Violation ShrinkViolation(const ScenarioRun& run, const DiskTrace& trace, Violation violation);

// What happened, for somebody who wants to understand it: the script, how to run it again, the
// trace before the crash, what of the pending writes was left, and what is wrong with that.
std::string Report(const Scenario& scenario, const Script& script, const DiskImage& prepared,
                   const ExploreOptions& options);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_SHRINK_H_
