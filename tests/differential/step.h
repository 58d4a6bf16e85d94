#ifndef RINGCOW_TESTS_DIFFERENTIAL_STEP_H_
#define RINGCOW_TESTS_DIFFERENTIAL_STEP_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/differential/image_setup.h"

namespace ringcow {

// What a guest asks of its disk. Offsets and lengths are bytes, inside the disk.
struct GuestRequest {
  enum class Kind : uint8_t { kRead, kWrite, kWriteCompressed, kZero, kZeroAndUnmap, kDiscard };
  Kind kind = Kind::kWrite;
  uint64_t offset = 0;
  uint64_t length = 0;
  uint8_t pattern = 0;  // of writes
};

// What is done to an image, by QEMU's tools or by the library.
struct Step {
  enum class Kind : uint8_t {
    kRequests,  // one after the other, with the image open all the time
    kCreateSnapshot,
    kApplySnapshot,
    kDeleteSnapshot,
    kResize,
    kCommit,      // into the backing file
    kCopyOnRead,  // requests that read, each of which brings bytes into the image
    kAddBitmap,
    kRemoveBitmap,
    kClearBitmap,
    kEnableBitmap,
    kDisableBitmap,
    kMergeBitmap,  // another one into it
  };
  Kind kind = Kind::kRequests;
  std::vector<GuestRequest> requests = {};
  std::string snapshot = {};  // its name
  uint64_t size = 0;          // bytes
  std::string bitmap = {};    // its name
  uint64_t granularity = 0;   // of a new one, bytes
  bool enabled = true;        // a new one
  std::string source = {};    // the bitmap that is merged into it
};

// "write -P 7 0 65536", as qemu-io takes it.
std::string CommandOf(const GuestRequest& request);
// "--add -g 512 --disable b1", as qemu-img bitmap takes it, the image's name aside.
std::vector<std::string> BitmapOptions(const Step& step);
// In words that tell somebody how to do it again.
std::string Describe(const Step& step);

// What the next step depends on.
struct ImageState {
  uint64_t size = 0;
  std::vector<std::string> snapshots;
  size_t snapshots_made = 0;
  std::vector<std::string> bitmaps;
  size_t bitmaps_made = 0;
};

Step RandomStep(const ImageSetup& setup, const ImageState& state, std::mt19937_64& random);

}  // namespace ringcow

#endif  // RINGCOW_TESTS_DIFFERENTIAL_STEP_H_
