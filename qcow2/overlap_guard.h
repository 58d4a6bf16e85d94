#ifndef RINGCOW_QCOW2_OVERLAP_GUARD_H_
#define RINGCOW_QCOW2_OVERLAP_GUARD_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "engine/host_offset.h"
#include "qcow2/format/geometry.h"

namespace ringcow {

struct Metadata;

// What a write is kept out of: QEMU's templates of overlap-check.
enum class OverlapCheck : uint8_t {
  kNone,
  kConstant,  // the header, the active L1 table, refcount and snapshot table, bitmap directory
  kCached,    // and active L2 tables, refcount blocks, snapshots' L1 tables: all that costs no I/O
};

// Keeps a damaged image from sending a write to where other metadata is: an L2 entry that names an
// L2 table, a refcount of 0 for one. Asked before each write whose place was read from the image or
// found by its refcounts; costs two look-ups for each cluster of it, and no I/O.
class OverlapGuard {
 public:
  // What is written: a table may be where it is.
  enum class Own : uint8_t { kNothing, kL1, kL2, kRefcountBlock, kBitmapDirectory };

  // `metadata`, which it is part of, has the tables.
  OverlapGuard(const Metadata& metadata, OverlapCheck check) : metadata_(metadata), check_(check) {}

  struct Range {
    HostOffset begin;
    HostOffset end;
  };
  void SetSnapshotTable(Range place) { snapshot_table_ = place; }
  void SetSnapshotL1Tables(std::vector<Range> places);
  // Of bitmaps that count; empty without any.
  void SetBitmapDirectory(Range place) { bitmap_directory_ = place; }

  // InvalidArgument, with a Corruption, when something else is in [begin, begin + length).
  absl::Status BeforeWrite(HostOffset begin, uint64_t length, Own own) const;

 private:
  // What is there, in QEMU's words; null for nothing.
  const char* WhatIsIn(Range range, Own own) const;
  bool NamesAnyIn(Range range, bool l2_tables) const;
  bool HasSnapshotL1In(Range range) const;

  const Metadata& metadata_;
  const OverlapCheck check_;
  Range snapshot_table_;
  std::vector<Range> snapshot_l1_tables_;  // by their beginning
  Range bitmap_directory_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_OVERLAP_GUARD_H_
