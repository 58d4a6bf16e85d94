#ifndef RINGCOW_TESTS_DIFFERENTIAL_IMAGE_SETUP_H_
#define RINGCOW_TESTS_DIFFERENTIAL_IMAGE_SETUP_H_

#include <cstdint>
#include <ostream>
#include <random>
#include <string>

#include "qcow2/format/options.h"

namespace ringcow {

enum class DataFile : uint8_t {
  kNone,
  kPlain,  // the external data file holds what the image says is in it
  kRaw,    // and is the disk by itself
};

// What kind of image, one of the product of everything that can be set about one.
struct ImageSetup {
  CreateOptions create;     // the backing file and the data file aside
  std::string backing;      // its format; empty: there is none
  CreateOptions base = {};  // of a qcow2 backing file; of a raw one the size
  DataFile data_file = DataFile::kNone;
  DataFile base_data_file = DataFile::kNone;  // of a qcow2 backing file

  // Narrower refcounts have no room for them, and what is in a data file has none.
  bool has_snapshots() const { return create.refcount_bits >= 4 && data_file == DataFile::kNone; }
  bool has_compression() const { return data_file == DataFile::kNone; }
  bool has_bitmaps() const { return create.version >= 3; }
  // Version 2 has no zero clusters, and QEMU allocates what is zero already. And where a raw data
  // file has subclusters, ours are all allocated from the beginning, since the file shows them.
  bool has_comparable_maps() const {
    return create.version > 2 && !(data_file == DataFile::kRaw && create.extended_l2);
  }
  // A discarded cluster of the others reads as zeroes.
  bool keeps_discarded() const { return create.version < 3 && !backing.empty(); }
};

std::ostream& operator<<(std::ostream& out, const ImageSetup& setup);

ImageSetup RandomImageSetup(std::mt19937_64& random);
// Whole sectors, mostly not whole clusters; a few megabytes at most.
uint64_t RandomSize(uint64_t cluster_size, std::mt19937_64& random);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_DIFFERENTIAL_IMAGE_SETUP_H_
