#ifndef RINGCOW_TESTS_DIFFERENTIAL_TWIN_H_
#define RINGCOW_TESTS_DIFFERENTIAL_TWIN_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "tests/differential/bitmap_model.h"
#include "tests/differential/hand.h"
#include "tests/differential/image_setup.h"
#include "tests/differential/step.h"
#include "tests/support/tools.h"

namespace ringcow {

// One of two images to which the same is done, with its backing file.
class Twin {
 public:
  // `hand` makes it; the backing file, which reads as `base`, is QEMU's.
  Twin(Hand& hand, const ImageSetup& setup, std::span<const std::byte> base);

  const std::string& path() const { return image_.path(); }

  void Do(Hand& hand, const Step& step) { hand.Do(path(), step); }
  // Both checks find nothing, not even a leak, and we read `bytes`, which a raw data file has, too.
  void ExpectCleanAndEqual(std::span<const std::byte> bytes);
  void ExpectBase(std::span<const std::byte> base);
  // They are as we read them, and as QEMU reads them.
  void ExpectBitmaps(const BitmapModels& bitmaps);

  // What qemu-img map tells but for where things are: a line for each run of bytes that are alike.
  std::string Map() const;

 private:
  ImageSetup setup_;
  TempFile base_{".base"};
  TempFile base_data_{".base.data"};
  TempFile image_{".qcow2"};
  TempFile data_{".data"};
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_DIFFERENTIAL_TWIN_H_
