#ifndef RINGCOW_QCOW2_GUEST_DISK_H_
#define RINGCOW_QCOW2_GUEST_DISK_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/task.h"
#include "qcow2/format/options.h"
#include "qcow2/format/units.h"

namespace ringcow {

// What some guest bytes are, as the disk's metadata tells without reading them.
struct GuestExtent {
  uint64_t bytes = 0;  // from the offset that was asked about on
  // This disk's own layer says what they are; else they are its backing file's, or zeroes.
  bool allocated = true;
  bool zero = false;        // known to read as zeroes by this layer; false says nothing
  bool compressed = false;  // stored compressed
  bool hole = false;        // zero because the file has a hole where it is stored
  std::optional<HostOffset> host =
      std::nullopt;  // of the first byte, where they are stored as they are
};

// Where guest bytes are stored, as they are and in one piece.
struct StoredBytes {
  Disk* disk = nullptr;
  HostOffset offset;
};

// May the space behind zeroes be given back?
enum class ZeroManner : uint8_t { kKeepSpace, kMayUnmap };

// A virtual disk as a guest sees it, whatever the format of the file behind it (Image for qcow2,
// RawImage for raw).
//
// Offsets and lengths are bytes, of any alignment, inside [0, size()): OutOfRange else. Any number
// of requests may be under way; those that overlap take effect in an undefined order, each sector
// of one or the other. A write is acknowledged when its task ends, and durable when a Flush that
// was called later has ended well. The memory belongs to the caller until the task ends.
// Belongs to its loop's thread. Close ends it; destroying it without Close forgets what was not
// flushed, as a crash does, and must not be done with requests under way.
class GuestDisk {
 public:
  virtual ~GuestDisk() = default;

  virtual uint64_t size() const = 0;
  // Whether [offset, offset + length) is inside [0, size()).
  bool Has(GuestOffset offset, uint64_t length) const {
    return offset.value() <= size() && length <= size() - offset.value();
  }
  virtual Task<absl::Status> Read(GuestOffset offset, std::span<std::byte> into) = 0;
  virtual Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) = 0;
  // A Write, stored compressed where the format can and where that saves space. Whole clusters, the
  // last one as far as the disk reaches: EINVAL else. EIO where a cluster is stored already, unless
  // the bytes do not become smaller; ENOTSUP for formats without compression.
  virtual Task<absl::Status> WriteCompressed(GuestOffset offset, std::span<const std::byte> from);
  // They read as zeroes afterwards. Where the format can say so, nothing is written.
  virtual Task<absl::Status> WriteZeroes(GuestOffset offset, uint64_t length,
                                         ZeroManner manner) = 0;
  // The guest needs them no more: they may read as zeroes afterwards, or as before.
  virtual Task<absl::Status> Discard(GuestOffset offset, uint64_t length) = 0;
  // What the bytes from `offset` on are: at least one of them, at most `length` > 0.
  virtual Task<absl::StatusOr<GuestExtent>> Find(GuestOffset offset, uint64_t length) = 0;
  // Whether metadata alone tells, through all backing files, that the bytes read as zeroes. False
  // says nothing.
  virtual Task<absl::StatusOr<bool>> AreKnownZero(GuestOffset offset, uint64_t length) = 0;
  // Where these bytes are, if they are stored in one piece and if that is known without waiting,
  // and stays so for as long as the disk is open: whoever copies them may then read them from
  // there. Nothing says nothing: Read does it.
  virtual std::optional<StoredBytes> TryLocate(GuestOffset /*offset*/, uint64_t /*length*/) {
    return std::nullopt;
  }
  // A new size. What is added reads as zeroes, and gets space as `preallocation` says; what is cut
  // off is lost.
  virtual Task<absl::Status> Resize(uint64_t size, Preallocation preallocation) = 0;
  virtual Task<absl::Status> Flush() = 0;
  // Flushes and gives back what was held in reserve. No request may follow.
  virtual Task<absl::Status> Close() = 0;

  // What the host's disk was asked to do.
  virtual const DiskCounters& counters() const = 0;
  virtual void ResetCounters() = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_GUEST_DISK_H_
