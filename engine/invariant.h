#ifndef RINGCOW_ENGINE_INVARIANT_H_
#define RINGCOW_ENGINE_INVARIANT_H_

#include <cstdio>
#include <cstdlib>

// Stops the process when the program itself is wrong (never because of input, a disk, or the
// kernel: those are absl::Status). Going on after a broken invariant could write wrong metadata,
// so it is checked in every build.
#define RINGCOW_INVARIANT(condition, why)                                        \
  do {                                                                           \
    if (__builtin_expect(!(condition), 0)) {                                     \
      ::ringcow::internal::InvariantBroken(#condition, why, __FILE__, __LINE__); \
    }                                                                            \
  } while (false)

namespace ringcow::internal {

[[noreturn]] inline void InvariantBroken(const char* condition, const char* why, const char* file,
                                         int line) {
  std::fprintf(stderr, "%s:%d: invariant broken: %s (%s)\n", file, line, why, condition);
  std::abort();
}

}  // namespace ringcow::internal

#endif  // RINGCOW_ENGINE_INVARIANT_H_
