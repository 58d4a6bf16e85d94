#ifndef RINGCOW_TESTS_FUZZ_PROBES_H_
#define RINGCOW_TESTS_FUZZ_PROBES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/loop.h"
#include "engine/testing/sim_disk.h"
#include "qcow2/guest_disk.h"
#include "qcow2/image.h"
#include "qcow2/raw_image.h"

namespace ringcow {

// What is read at a place.
inline constexpr uint64_t kReadBytes = 16384;

// Places all over the disk, and both ends. A disk may have 2^61 bytes, so not all of it. None when
// it is shorter than kReadBytes.
std::vector<GuestOffset> Probes(uint64_t size);

// What the guest sees at a place; nothing where it cannot be read.
struct Seen {
  GuestOffset offset;
  std::optional<std::vector<std::byte>> bytes;
};
std::vector<Seen> ReadAllOver(Loop& loop, GuestDisk& image);

// The other files that an image may want: a raw backing file and a data file, with something in
// each. Images that want none do not notice.
class OtherFiles {
 public:
  explicit OtherFiles(Loop& loop);

  OpenOptions Options(bool read_only);

 private:
  SimDisk backing_disk_;
  SimDisk data_file_;
  RawImage backing_;
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_FUZZ_PROBES_H_
