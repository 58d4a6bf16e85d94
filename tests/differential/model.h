#ifndef RINGCOW_TESTS_DIFFERENTIAL_MODEL_H_
#define RINGCOW_TESTS_DIFFERENTIAL_MODEL_H_

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tests/differential/bitmap_model.h"
#include "tests/differential/image_setup.h"
#include "tests/differential/step.h"

namespace ringcow {

// What an image should read as, by itself, in its snapshots and in its backing file, and what its
// bitmaps should have.
class Model {
 public:
  using Bytes = std::vector<std::byte>;

  Model(const ImageSetup& setup, Bytes base);

  void Apply(const Step& step);

  const Bytes& bytes() const { return bytes_; }
  const Bytes& base() const { return base_; }
  const BitmapModels& bitmaps() const { return bitmaps_; }
  ImageState state() const;

 private:
  void Apply(const GuestRequest& request);
  void ApplyToBitmap(const Step& step);

  const uint64_t cluster_bytes_;
  const bool keeps_discarded_;
  Bytes bytes_;
  Bytes base_;
  std::map<std::string, Bytes> snapshots_;
  size_t snapshots_made_ = 0;
  BitmapModels bitmaps_;
  size_t bitmaps_made_ = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_DIFFERENTIAL_MODEL_H_
