#ifndef RINGCOW_QCOW2_OVERLAP_GUARD_H_
#define RINGCOW_QCOW2_OVERLAP_GUARD_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "engine/host_offset.h"
#include "qcow2/format/geometry.h"

namespace ringcow {

struct Metadata;

// The metadata that a write is kept out of: QEMU's overlap-check.
class OverlapCheck {
 public:
  // In the order in which they are looked at.
  enum Structure : uint8_t {
    kMainHeader,
    kActiveL1,
    kActiveL2,
    kRefcountTable,
    kRefcountBlock,
    kSnapshotTable,
    kInactiveL1,
    kInactiveL2,
    kBitmapDirectory,
  };

  // QEMU's templates.
  static const OverlapCheck kNone;
  static const OverlapCheck kConstant;  // what lies in one place as long as the image is open
  static const OverlapCheck kCached;    // and all that is known without I/O
  static const OverlapCheck kAll;       // and the L2 tables of snapshots, whose L1 tables are read
                                        // when the image is opened for writing

  constexpr OverlapCheck() = default;

  constexpr bool Has(Structure structure) const { return (structures_ >> structure & 1U) != 0; }
  constexpr bool has_any() const { return structures_ != 0; }
  // The same with, or without, one of them.
  constexpr OverlapCheck With(Structure structure, bool has) const {
    const uint32_t bit = 1U << structure;
    return OverlapCheck(has ? structures_ | bit : structures_ & ~bit);
  }

 private:
  explicit constexpr OverlapCheck(uint32_t structures) : structures_(structures) {}

  uint32_t structures_ = 0;
};

inline constexpr OverlapCheck OverlapCheck::kNone;
inline constexpr OverlapCheck OverlapCheck::kConstant = kNone.With(kMainHeader, true)
                                                            .With(kActiveL1, true)
                                                            .With(kRefcountTable, true)
                                                            .With(kSnapshotTable, true)
                                                            .With(kBitmapDirectory, true);
inline constexpr OverlapCheck OverlapCheck::kCached =
    kConstant.With(kActiveL2, true).With(kRefcountBlock, true).With(kInactiveL1, true);
inline constexpr OverlapCheck OverlapCheck::kAll = kCached.With(kInactiveL2, true);

// Keeps a damaged image from sending a write to where other metadata is: an L2 entry that names an
// L2 table, a refcount of 0 for one. Asked before each write whose place was read from the image or
// found by its refcounts; costs two look-ups for each cluster of it (three, with the L2 tables of
// snapshots), and no I/O.
class OverlapGuard {
 public:
  // What is written: a table may be where it is.
  enum class Own : uint8_t { kNothing, kL1, kL2, kRefcountTable, kRefcountBlock, kBitmapDirectory };

  // `metadata`, which it is part of, has the tables.
  OverlapGuard(const Metadata& metadata, OverlapCheck check) : metadata_(metadata), check_(check) {}

  struct Range {
    HostOffset begin;
    HostOffset end;
  };
  void SetSnapshotTable(Range place) { snapshot_table_ = place; }
  void SetSnapshotL1Tables(std::vector<Range> places);
  // Wanted where the check has kInactiveL2.
  void SetSnapshotL2Tables(absl::flat_hash_set<uint64_t> host_offsets) {
    snapshot_l2_tables_ = std::move(host_offsets);
    unknown_ = absl::OkStatus();
  }
  // Those could not be found: all writes fail with `why`, which IsUnguarded from then on.
  void DoNotKnowSnapshotL2Tables(absl::Status why);
  bool KnowsSnapshotL2Tables() const { return check_.Has(OverlapCheck::kInactiveL2); }
  // Of bitmaps that count; empty without any.
  void SetBitmapDirectory(Range place) { bitmap_directory_ = place; }

  // InvalidArgument, with a Corruption, when something else is in [begin, begin + length).
  absl::Status BeforeWrite(HostOffset begin, uint64_t length, Own own) const;

 private:
  // What is there, in QEMU's words; null for nothing.
  const char* WhatIsIn(Range range, Own own) const;
  const char* WhatTablesAreIn(Range range, Own own) const;
  // The tables of snapshots, and the bitmap directory.
  const char* WhatOthersAreIn(Range range, Own own) const;
  // Whether a cluster in `range` is one that `names` is true of.
  template <typename Predicate>
  bool AnyClusterOf(Range range, Predicate names) const;
  bool HasSnapshotL1In(Range range) const;

  const Metadata& metadata_;
  const OverlapCheck check_;
  Range snapshot_table_;
  std::vector<Range> snapshot_l1_tables_;  // by their beginning
  absl::flat_hash_set<uint64_t> snapshot_l2_tables_;
  absl::Status unknown_;
  Range bitmap_directory_;
};

// Whether a write failed because nobody knows what is where it would have gone.
bool IsUnguarded(const absl::Status& status);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_OVERLAP_GUARD_H_
