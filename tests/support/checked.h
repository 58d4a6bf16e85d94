#ifndef RINGCOW_TESTS_SUPPORT_CHECKED_H_
#define RINGCOW_TESTS_SUPPORT_CHECKED_H_

#include <string>

#include "engine/disk.h"

namespace ringcow {

// What CheckImage finds wrong with the image on `disk`, a line each; empty when nothing is. Without
// leaks: corruptions and what cannot be read only.
std::string Findings(Disk& disk);
std::string FindingsWithoutLeaks(Disk& disk);

// Without leaks, and without those COPIED flags that do no harm: one that is missing costs a copy;
// one at a cluster with a refcount that is too high is right about what refers to it. A power cut
// in a snapshot operation leaves them, because refcounts and flags are in different sectors.
std::string FindingsExceptHarmlessCopied(Disk& disk);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_SUPPORT_CHECKED_H_
