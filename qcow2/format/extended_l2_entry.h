#ifndef RINGCOW_QCOW2_FORMAT_EXTENDED_L2_ENTRY_H_
#define RINGCOW_QCOW2_FORMAT_EXTENDED_L2_ENTRY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "engine/host_offset.h"
#include "engine/invariant.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/l2_entry.h"
#include "qcow2/format/subcluster_bitmap.h"

namespace ringcow {

// An entry of an L2 table with subclusters (16 bytes): an L2Entry, whose zero flag is not used, and
// a bitmap that says what each subcluster is. A value type.
class ExtendedL2Entry {
 public:
  // Unallocated, every subcluster too.
  constexpr ExtendedL2Entry() = default;
  // Anything: what comes from disk must pass IsValid before use.
  static constexpr ExtendedL2Entry FromRaw(uint64_t entry, uint64_t bitmap) {
    return ExtendedL2Entry(L2Entry::FromRaw(entry), SubclusterBitmap::FromRaw(bitmap));
  }
  // No host cluster: every subcluster is unallocated or zero.
  static constexpr ExtendedL2Entry WithoutCluster(SubclusterBitmap bitmap) {
    RINGCOW_INVARIANT(bitmap.allocated() == 0, "a subcluster is allocated in no cluster");
    return ExtendedL2Entry(L2Entry::Unallocated(), bitmap);
  }
  // `cluster` as in L2Entry::Normal. `bitmap` is valid; with nothing allocated in it the host
  // cluster is kept for later writes.
  static constexpr ExtendedL2Entry InCluster(HostOffset cluster, bool copied,
                                             SubclusterBitmap bitmap) {
    RINGCOW_INVARIANT(bitmap.IsValid(), "a subcluster is allocated and zero");
    return ExtendedL2Entry(L2Entry::Normal(cluster, copied), bitmap);
  }
  // `entry` is of kind kCompressed. Compressed clusters have no subclusters.
  static constexpr ExtendedL2Entry Compressed(L2Entry entry) {
    RINGCOW_INVARIANT(entry.kind() == L2Entry::Kind::kCompressed, "not a compressed cluster");
    return ExtendedL2Entry(entry, SubclusterBitmap());
  }

  // Entry `index` of a table, or of a slice of one. `index` is inside it.
  static ExtendedL2Entry Load(std::span<const std::byte> table, size_t index) {
    return FromRaw(LoadBe64At(table, index * 2), LoadBe64At(table, index * 2 + 1));
  }
  void Store(std::span<std::byte> table, size_t index) const {
    StoreBe64At(table, index * 2, entry_.raw());
    StoreBe64At(table, index * 2 + 1, bitmap_.raw());
  }

  constexpr L2Entry entry() const { return entry_; }
  constexpr SubclusterBitmap bitmap() const { return bitmap_; }
  constexpr bool copied() const { return entry_.copied(); }
  // The host cluster, if there is one. There may be one whatever kind(i) says, kUnallocated and
  // kZeroAllocated included: a write to such a subcluster goes there without allocating.
  constexpr std::optional<HostOffset> host_offset() const { return entry_.host_offset(); }

  // What subcluster `index` is. kUnallocated reads from the backing file, whether or not there is
  // a host cluster. Where the cluster is compressed all subclusters are kCompressed.
  constexpr L2Entry::Kind kind(uint32_t index) const {
    if (compressed()) return L2Entry::Kind::kCompressed;
    switch (bitmap_.state(index)) {
      case SubclusterBitmap::State::kAllocated:
        return L2Entry::Kind::kNormal;
      case SubclusterBitmap::State::kZero:
        return host_offset().has_value() ? L2Entry::Kind::kZeroAllocated
                                         : L2Entry::Kind::kZeroPlain;
      case SubclusterBitmap::State::kUnallocated:
        break;
    }
    return L2Entry::Kind::kUnallocated;
  }
  // How many subclusters from `index` on, within this cluster, are of its kind: 1 at least.
  constexpr uint32_t RunLength(uint32_t index) const {
    return compressed() ? kSubclustersPerCluster - index : bitmap_.RunLength(index);
  }

  // Not for compressed entries. `bitmap` fits the entry: see WithoutCluster and InCluster.
  constexpr ExtendedL2Entry WithBitmap(SubclusterBitmap bitmap) const {
    RINGCOW_INVARIANT(
        !compressed() && bitmap.IsValid() && (bitmap.allocated() == 0 || host_offset().has_value()),
        "not a bitmap for this entry");
    return ExtendedL2Entry(entry_, bitmap);
  }
  constexpr ExtendedL2Entry WithCopied(bool copied) const {
    return ExtendedL2Entry(entry_.WithCopied(copied), bitmap_);
  }

  // Without what says nothing, as QEMU ignores it: the zero flag, and the bitmap of a compressed
  // cluster.
  constexpr ExtendedL2Entry WithoutUnused() const {
    return compressed() ? ExtendedL2Entry(entry_, SubclusterBitmap())
                        : ExtendedL2Entry(entry_.WithoutZero(), bitmap_);
  }

  // The entry valid by itself, no zero flag in it, no subcluster both allocated and zero, none
  // allocated without a host cluster, and an empty bitmap where the cluster is compressed.
  bool IsValid(const Geometry& geometry) const {
    if (!entry_.IsValid(geometry) || !bitmap_.IsValid()) return false;
    if (compressed()) return bitmap_.raw() == 0;
    return bitmap_.allocated() == 0 || host_offset().has_value();
  }
  // The same, as a message with the place: InvalidArgument when not valid.
  absl::Status Validate(const Geometry& geometry, HostOffset l2_table, uint64_t l2_index) const;

  friend constexpr bool operator==(ExtendedL2Entry, ExtendedL2Entry) = default;

 private:
  constexpr ExtendedL2Entry(L2Entry entry, SubclusterBitmap bitmap)
      : entry_(entry), bitmap_(bitmap) {}

  constexpr bool compressed() const { return entry_.kind() == L2Entry::Kind::kCompressed; }

  L2Entry entry_ = L2Entry::Unallocated();
  SubclusterBitmap bitmap_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_EXTENDED_L2_ENTRY_H_
