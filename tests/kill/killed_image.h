#ifndef RINGCOW_TESTS_KILL_KILLED_IMAGE_H_
#define RINGCOW_TESTS_KILL_KILLED_IMAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>

#include "qcow2/format/options.h"
#include "tests/kill/expectation.h"
#include "tests/kill/journal.h"
#include "tests/kill/life.h"

namespace ringcow {

// What happened so far.
struct Tally {
  size_t kills() const;
  std::string ToString() const;

  std::array<size_t, kPhases> kills_in{};
  size_t kills_in_flush = 0;
  size_t orderly_ends = 0;  // guests that were done before their time
  size_t writes = 0;        // acknowledged
  size_t flushes = 0;
  std::string notice;  // when the disk has no O_DIRECT
};

// An image in a file and its guests, one after the other, each a process that SIGKILL ends. What
// one leaves behind is judged, and is what the next one opens.
class KilledImage {
 public:
  // The file is made by the first guest. The seed decides what guests do and when they are to be
  // killed; what they were doing at that moment is not for a seed to say.
  KilledImage(std::string path, uint64_t seed);

  // Says what is wrong after one life, and of what life; empty when nothing is.
  std::string Live(Tally& tally);

  // The same with the given life.
  std::string Live(const Life& life, Tally& tally);

  const CreateOptions& create() const { return create_; }

 private:
  struct Death {
    bool killed = false;
    int status = 0;
  };

  Death RunAndKill(const Life& life);
  bool IsTimeToKill(const Life& life) const;
  void Count(const Death& death, Tally& tally) const;
  std::string JudgeFile(bool writethrough, Tally& tally);
  std::string JudgeAbandonedCreation() const;

  const std::string path_;
  std::mt19937_64 random_;
  const CreateOptions create_;
  Journal journal_;
  std::optional<Expectation> expected_;  // nothing: no guest has finished creating the image
  uint64_t next_stamp_ = 1;
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_KILL_KILLED_IMAGE_H_
