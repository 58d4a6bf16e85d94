#ifndef RINGCOW_QCOW2_RESIDENT_TABLE_H_
#define RINGCOW_QCOW2_RESIDENT_TABLE_H_

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "cache/table_cache.h"
#include "engine/host_offset.h"
#include "engine/invariant.h"
#include "engine/task.h"
#include "qcow2/format/big_endian.h"

namespace ringcow {

// An array of 64-bit entries that every lookup goes through (the active L1 table, the refcount
// table), held in memory as a whole: all its cached tables stay pinned, so that they are ordered
// and written back like any other.
class ResidentTable {
 public:
  ResidentTable() = default;

  // Reads `entries` entries at `offset` (cluster-aligned; bounded by the header's validation).
  static Task<absl::StatusOr<ResidentTable>> Load(TableCache& cache, HostOffset offset,
                                                  uint64_t entries);
  // A table of zeroes, to be written as a whole.
  static Task<absl::StatusOr<ResidentTable>> MakeEmpty(TableCache& cache, HostOffset offset,
                                                       uint64_t entries);

  HostOffset offset() const { return offset_; }
  HostOffset end() const { return offset_ + entries_ * 8; }
  uint64_t entries() const { return entries_; }
  bool Overlaps(HostOffset begin, HostOffset end_of_other) const {
    return begin < end() && offset_ < end_of_other;
  }

  uint64_t Get(uint64_t index) const {
    RINGCOW_INVARIANT(index < entries_, "table index out of range");
    return LoadBe64At(PinOf(index).bytes(), index & (entries_per_pin() - 1));
  }
  // Dependencies of TableOf(index) are declared before.
  void Set(uint64_t index, uint64_t value);

  // Whether an entry names the cluster at `cluster`. (Where two do, which only happens in a damaged
  // image, it is forgotten when one of them changes.)
  bool Names(HostOffset cluster) const {
    return may_be_named_[MarkOf(cluster.value())] && named_.contains(cluster.value());
  }

  // The cached table that holds entry `index`, for declaring dependencies.
  Table& TableOf(uint64_t index) const { return PinOf(index).table(); }
  const std::vector<TablePin>& pins() const { return pins_; }

 private:
  ResidentTable(TableCache& cache, HostOffset offset, uint64_t entries);

  static constexpr int kMarkBits = 12;
  static constexpr size_t kMarks = size_t{1} << kMarkBits;
  // The highest bits of the product with 2^64 / the golden ratio, which neighbours have far apart.
  static size_t MarkOf(uint64_t offset) {
    return static_cast<size_t>(offset * 0x9e3779b97f4a7c15 >> (64 - kMarkBits));
  }
  void Name(uint64_t offset);

  uint64_t entries_per_pin() const { return uint64_t{1} << pin_bits_; }
  const TablePin& PinOf(uint64_t index) const { return pins_[index >> pin_bits_]; }

  TableCache* cache_ = nullptr;
  HostOffset offset_;
  uint64_t entries_ = 0;
  int pin_bits_ = 0;  // entries a pin, as a power of two
  std::vector<TablePin> pins_;
  absl::flat_hash_set<uint64_t> named_;  // host offsets
  // The marks of all that is named, and of some that was. It is asked of every cluster that is
  // written to, nearly all of which have another.
  std::bitset<kMarks> may_be_named_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_RESIDENT_TABLE_H_
