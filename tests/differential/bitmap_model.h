#ifndef RINGCOW_TESTS_DIFFERENTIAL_BITMAP_MODEL_H_
#define RINGCOW_TESTS_DIFFERENTIAL_BITMAP_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ringcow {

// What a persistent dirty bitmap should be. QEMU and we mark the same: every bit of which a byte
// was written, zeroed, or asked to be discarded, and no other.
class BitmapModel {
 public:
  BitmapModel(uint64_t granularity, bool enabled, uint64_t disk_bytes)
      : granularity_(granularity), enabled_(enabled) {
    Resize(disk_bytes);
  }

  uint64_t granularity() const { return granularity_; }
  bool enabled() const { return enabled_; }
  const std::vector<bool>& bits() const { return bits_; }

  void SetEnabled(bool enabled) { enabled_ = enabled; }
  void Resize(uint64_t disk_bytes) { bits_.resize((disk_bytes + granularity_ - 1) / granularity_); }
  void Clear() { bits_.assign(bits_.size(), false); }
  // The guest changes these bytes.
  void Change(uint64_t begin, uint64_t end) {
    if (enabled_) Set(begin, end);
  }
  // Of a disk of the same size.
  void Merge(const BitmapModel& from);

 private:
  void Set(uint64_t begin, uint64_t end);

  uint64_t granularity_;
  bool enabled_;
  std::vector<bool> bits_;
};

// By name.
using BitmapModels = std::map<std::string, BitmapModel>;

}  // namespace ringcow

#endif  // RINGCOW_TESTS_DIFFERENTIAL_BITMAP_MODEL_H_
