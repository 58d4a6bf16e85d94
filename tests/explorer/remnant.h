#ifndef RINGCOW_TESTS_EXPLORER_REMNANT_H_
#define RINGCOW_TESTS_EXPLORER_REMNANT_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/testing/crash_point.h"
#include "engine/testing/disk_image.h"

namespace ringcow {

// What a crash leaves of one pending change.
struct Remnant {
  enum class Kind : uint8_t {
    kNothing,
    kAll,
    // Torn:
    kFirstSector,
    kLastSector,
    kEvenSectors,
    kOddSectors,
    kSomeSectors,  // each with a probability of one half, decided by `sample`
  };

  Kind kind = Kind::kNothing;
  uint64_t sample = 0;

  bool Reaches(uint64_t sector, uint64_t sectors) const;
};

// One for each of CrashPoint::pending(), in that order.
using Remnants = std::vector<Remnant>;

// The disk that this crash leaves.
DiskImage StateOf(const CrashPoint& point, const Remnants& remnants);

// A line for each pending change, with what is left of it.
std::string Describe(const CrashPoint& point, const Remnants& remnants);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_REMNANT_H_
