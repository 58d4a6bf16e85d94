#ifndef RINGCOW_TESTS_KILL_LIFE_H_
#define RINGCOW_TESTS_KILL_LIFE_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>

#include "absl/time/time.h"
#include "qcow2/format/options.h"
#include "qcow2/image.h"
#include "tests/kill/journal.h"

namespace ringcow {

// What one guest does with an image, and when it is killed.
struct Life {
  CreateOptions create;
  bool creates = false;  // the image first
  OpenOptions open = {};

  uint64_t seed = 0;  // of the requests
  uint64_t first_stamp = 1;
  size_t workers = 1;
  uint64_t group = 1;       // sectors; neighbouring groups belong to different workers
  uint64_t flush_odds = 1;  // one request in so many is a flush
  size_t steps = 0;         // of each worker, then the image is closed; 0: until it is killed
  bool lies_about_flushes = false;  // they are told of as done, and left out

  // The kill comes `delay` after the journal reached this phase with so many entries, and after the
  // beginning of a flush if so wanted.
  Phase kill_in = Phase::kWorking;
  size_t kill_after = 0;
  bool kill_in_flush = false;
  absl::Duration delay = absl::ZeroDuration();
};

// The options of an image for all of its lives, which are taken by chance from small ones: the more
// tables there are, and the less room for them, the more happens.
CreateOptions RandomImage(std::mt19937_64& random);
Life RandomLife(const CreateOptions& image, bool creates, std::mt19937_64& random);

// For messages: enough to tell by which options it failed.
std::string Describe(const Life& life);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_KILL_LIFE_H_
