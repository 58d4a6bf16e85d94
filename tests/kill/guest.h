#ifndef RINGCOW_TESTS_KILL_GUEST_H_
#define RINGCOW_TESTS_KILL_GUEST_H_

#include <string>

#include "tests/kill/journal.h"
#include "tests/kill/life.h"

namespace ringcow {

// Lives that life with the image at `path`, telling `journal` of everything, and ends the process
// unless it is killed before: with status 0, or 1 after something failed.
[[noreturn]] void RunGuest(const std::string& path, const Life& life, Journal& journal);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_KILL_GUEST_H_
