#ifndef RINGCOW_QCOW2_FORMAT_L2_ENTRY_H_
#define RINGCOW_QCOW2_FORMAT_L2_ENTRY_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "engine/host_offset.h"
#include "engine/invariant.h"
#include "qcow2/format/geometry.h"

namespace ringcow {

// Where the bytes of a compressed cluster are: any byte offset, and the number of bytes up to the
// end of its last 512-byte sector (the stream may end earlier).
struct CompressedExtent {
  HostOffset offset;
  uint64_t bytes = 0;

  friend bool operator==(const CompressedExtent&, const CompressedExtent&) = default;
};

// An entry of an L2 table, or the first half of one with subclusters (extended_l2_entry.h): where
// the data of one guest cluster is.
//   standard:   bit 0 reads as zeroes, bits 9-55 host offset, bit 63 COPIED
//   compressed: bit 62, and a descriptor in bits 0-61
// COPIED is set exactly when the host cluster's refcount is one; it is never set when compressed.
//
// Offset 0 means that there is no host cluster, unless COPIED says that it is the image's own: in
// an external data file, which has no header, the first cluster holds data like any other. (With
// the zero flag it still means that there is none.) In images without such a file COPIED says
// nothing there: whoever reads entries of both kinds drops it first (LoadL2Slot).
class L2Entry {
 public:
  enum class Kind {
    kUnallocated,    // reads from the backing file, or zeroes
    kZeroPlain,      // reads zeroes
    kZeroAllocated,  // reads zeroes; the host cluster is kept for later writes
    kNormal,         // reads the host cluster
    kCompressed,     // reads the host extent, decompressed
  };

  // As stored, in host byte order. Anything: what comes from disk must pass IsValid before use.
  static constexpr L2Entry FromRaw(uint64_t raw) { return L2Entry(raw); }
  static constexpr L2Entry Unallocated() { return L2Entry(0); }
  static constexpr L2Entry ZeroPlain() { return L2Entry(kZero); }
  // `cluster` is cluster-aligned, not 0 (unless it is COPIED, in an external data file), and at
  // most kMaxEntryHostOffset.
  static constexpr L2Entry ZeroAllocated(HostOffset cluster, bool copied) {
    return L2Entry(Normal(cluster, copied).raw_ | kZero);
  }
  static constexpr L2Entry Normal(HostOffset cluster, bool copied) {
    RINGCOW_INVARIANT((cluster.value() != 0 || copied) && (cluster.value() & ~kOffsetMask) == 0,
                      "not a data cluster offset");
    return L2Entry(cluster.value() | (copied ? kCopied : 0));
  }

  // A compressed cluster whose `bytes` bytes of data begin at `offset`, at any byte. `bytes` is 1
  // to cluster_bytes(), and they end at or before MaxCompressedEnd(geometry).
  static L2Entry Compressed(const Geometry& geometry, HostOffset offset, uint64_t bytes);
  // Compressed data lie below this host offset: large clusters leave the offset fewer than the 56
  // bits that it has in other entries (49 with clusters of 2 MiB).
  static HostOffset MaxCompressedEnd(const Geometry& geometry);

  constexpr uint64_t raw() const { return raw_; }

  constexpr Kind kind() const {
    if ((raw_ & kCompressed) != 0) return Kind::kCompressed;
    if ((raw_ & kZero) != 0) return has_cluster() ? Kind::kZeroAllocated : Kind::kZeroPlain;
    return has_cluster() ? Kind::kNormal : Kind::kUnallocated;
  }

  constexpr bool copied() const { return (raw_ & kCopied) != 0; }
  // Not for compressed entries.
  constexpr L2Entry WithCopied(bool copied) const {
    return L2Entry((raw_ & ~kCopied) | (copied ? kCopied : 0));
  }

  constexpr L2Entry WithoutZero() const { return L2Entry(raw_ & ~kZero); }

  // The host cluster of kNormal and kZeroAllocated; nothing for the other kinds.
  constexpr std::optional<HostOffset> host_offset() const {
    if ((raw_ & kCompressed) != 0 || !has_cluster()) return std::nullopt;
    return HostOffset(raw_ & kOffsetMask);
  }

  // The extent of kCompressed; nothing for the other kinds. offset + bytes does not overflow.
  std::optional<CompressedExtent> compressed_extent(const Geometry& geometry) const;

  // 0 for compressed entries, which have none.
  constexpr uint64_t reserved_bits() const {
    return (raw_ & kCompressed) != 0 ? 0 : raw_ & kReservedMask;
  }

  // A standard entry with no reserved bit, the host cluster aligned, the zero flag only from
  // version 3 on and not where there are subclusters; or a compressed entry without COPIED. Whether
  // the cluster lies inside the file is for the caller to check.
  bool IsValid(const Geometry& geometry) const {
    if ((raw_ & kCompressed) != 0) return IsValidCompressed(geometry);
    return (raw_ & kReservedMask) == 0 &&
           geometry.IsClusterAligned(HostOffset(raw_ & kOffsetMask)) &&
           ((raw_ & kZero) == 0 || (geometry.version() >= 3 && !geometry.extended_l2()));
  }
  // The same, as a message with the place: InvalidArgument when not valid.
  absl::Status Validate(const Geometry& geometry, HostOffset l2_table, uint64_t l2_index) const;

  friend constexpr bool operator==(L2Entry, L2Entry) = default;

 private:
  static constexpr uint64_t kCopied = uint64_t{1} << 63;
  static constexpr uint64_t kCompressed = uint64_t{1} << 62;
  static constexpr uint64_t kZero = 1;
  static constexpr uint64_t kOffsetMask = 0x00fffffffffffe00;
  static constexpr uint64_t kReservedMask = ~(kCopied | kCompressed | kZero | kOffsetMask);

  constexpr explicit L2Entry(uint64_t raw) : raw_(raw) {}

  // Of entries that are not compressed.
  constexpr bool has_cluster() const {
    return (raw_ & kOffsetMask) != 0 || (raw_ & (kCopied | kZero)) == kCopied;
  }
  bool IsValidCompressed(const Geometry& geometry) const;

  uint64_t raw_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_L2_ENTRY_H_
