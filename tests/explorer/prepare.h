#ifndef RINGCOW_TESTS_EXPLORER_PREPARE_H_
#define RINGCOW_TESTS_EXPLORER_PREPARE_H_

#include "engine/testing/disk_image.h"
#include "tests/explorer/scenario.h"

namespace ringcow {

// The disk as the scenario finds it. Does not depend on the seed.
DiskImage Prepare(const Scenario& scenario);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_PREPARE_H_
