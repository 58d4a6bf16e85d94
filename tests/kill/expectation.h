#ifndef RINGCOW_TESTS_KILL_EXPECTATION_H_
#define RINGCOW_TESTS_KILL_EXPECTATION_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/kill/journal.h"

namespace ringcow {

constexpr uint64_t kStampedSector = 512;

// Fills whole sectors, the first of which is `sector` of the disk, so that each tells which write
// it is from and where it belongs. Stamps count from 1.
void FillStamped(uint64_t stamp, uint64_t sector, std::span<std::byte> sectors);

// What the sectors of a disk may hold after its guest was killed.
//
// Not all that was acknowledged: the L2 entries of fresh clusters die with the process unless they
// were flushed (or the cache is writethrough). But what was flushed, or something newer; and never
// anything that was not written to that very sector.
class Expectation {
 public:
  // Of a fresh disk: zeroes.
  explicit Expectation(uint64_t sectors) : words_(sectors, 0) {}

  // Says what is wrong with the first wrong sector of `found`, the whole disk, after the life that
  // `journal` tells of; empty when none is. From then on, what was found is what was there before.
  std::string Judge(std::span<const Journal::Entry> journal, bool writethrough,
                    std::span<const std::byte> found);

  uint64_t sectors() const { return words_.size(); }

 private:
  std::vector<uint64_t> words_;  // of which each sector consisted when it was last read
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_KILL_EXPECTATION_H_
