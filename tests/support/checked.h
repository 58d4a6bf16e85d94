#ifndef RINGCOW_TESTS_SUPPORT_CHECKED_H_
#define RINGCOW_TESTS_SUPPORT_CHECKED_H_

#include <string>

#include "engine/disk.h"

namespace ringcow {

// What CheckImage finds wrong with the image on `disk`, a line each; empty when nothing is. Without
// leaks: corruptions and what cannot be read only.
std::string Findings(Disk& disk);
std::string FindingsWithoutLeaks(Disk& disk);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_SUPPORT_CHECKED_H_
