#ifndef RINGCOW_TESTS_EXPLORER_SCENARIO_H_
#define RINGCOW_TESTS_EXPLORER_SCENARIO_H_

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "qcow2/create.h"
#include "qcow2/image.h"
#include "tests/explorer/operation.h"

namespace ringcow {

struct WeightedOperation {
  const Operation* operation = nullptr;
  uint32_t weight = 1;
};

// What is to happen to an image, so that every I/O it takes can be made to fail and the power can
// be cut after each. Small: thousands of states follow from each run.
struct Scenario {
  std::string name;
  CreateOptions create;  // the virtual size is a multiple of unit_bytes
  OpenOptions open;

  // What the guest reads and writes: see StampedGuest.
  uint64_t unit_bytes = 512;
  size_t workers = 3;
  size_t steps = 10;  // of each worker
  std::vector<WeightedOperation> mix;
  uint64_t group_units = 32;  // neighbouring units of one worker

  // Units from the end of the disk that are written, with zeroes, before the scenario begins.
  uint64_t filled_units = 0;
  // Clusters in use that nothing refers to, about so many and all before those that are free, so
  // that soon the image's refcounts need more room. A check finds them leaked.
  uint64_t leaked_clusters = 0;
  // Units that the image inherits from a backing file (InheritedDisk); 0: it has none.
  uint64_t inherited_units = 0;
  // Free clusters behind the image's end that hold old bytes, as after a crash: nothing allocated
  // there is known to be zero.
  uint64_t stale_bytes = 0;

  uint32_t disk_alignment = 512;
  bool can_allocate = true;  // fallocate is there
  bool io_fails = false;     // once; which request and how depend on the seed

  uint64_t seed = 1;
  // How much of the CI's time it gets, in comparison with the others.
  uint32_t share = 4;

  // Between a refcount and its COPIED flag there is always a moment in which a crash leaves them in
  // disagreement (see FindingsExceptHarmlessCopied).
  bool takes_snapshots() const;
  uint64_t units() const { return create.virtual_size / unit_bytes; }
};

std::ostream& operator<<(std::ostream& out, const Scenario& scenario);

// The scenarios by name, each with seed 1.
const std::vector<Scenario>& AllScenarios();
// Null when there is none of that name.
const Scenario* FindScenario(absl::string_view name);

// The same with another seed. Seeds also go through the forms of write-back plans, and through what
// OpenOptions can switch off.
Scenario WithSeed(Scenario scenario, uint64_t seed);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_EXPLORER_SCENARIO_H_
