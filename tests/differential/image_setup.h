#ifndef RINGCOW_TESTS_DIFFERENTIAL_IMAGE_SETUP_H_
#define RINGCOW_TESTS_DIFFERENTIAL_IMAGE_SETUP_H_

#include <cstdint>
#include <ostream>
#include <random>
#include <string>

#include "qcow2/format/options.h"

namespace ringcow {

// What kind of image, one of the product of everything that can be set about one.
struct ImageSetup {
  CreateOptions create;     // the backing file aside
  std::string backing;      // its format; empty: there is none
  CreateOptions base = {};  // of a qcow2 backing file; of a raw one the size

  // Narrower refcounts have no room for them.
  bool has_snapshots() const { return create.refcount_bits >= 4; }
  // A discarded cluster of the others reads as zeroes.
  bool keeps_discarded() const { return create.version < 3 && !backing.empty(); }
};

std::ostream& operator<<(std::ostream& out, const ImageSetup& setup);

ImageSetup RandomImageSetup(std::mt19937_64& random);
// Whole sectors, mostly not whole clusters; a few megabytes at most.
uint64_t RandomSize(uint64_t cluster_size, std::mt19937_64& random);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_DIFFERENTIAL_IMAGE_SETUP_H_
