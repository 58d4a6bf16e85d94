#include "tests/differential/bitmap_model.h"

#include <algorithm>

namespace ringcow {

void BitmapModel::Set(uint64_t begin, uint64_t end) {
  end = std::min(end, bits_.size() * granularity_);
  for (uint64_t bit = begin / granularity_; bit * granularity_ < end; ++bit) bits_[bit] = true;
}

void BitmapModel::Merge(const BitmapModel& from) {
  for (size_t i = 0; i < from.bits_.size(); ++i) {
    if (from.bits_[i]) Set(i * from.granularity_, (i + 1) * from.granularity_);
  }
}

}  // namespace ringcow
