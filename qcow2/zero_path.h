#ifndef RINGCOW_QCOW2_ZERO_PATH_H_
#define RINGCOW_QCOW2_ZERO_PATH_H_

#include <cstdint>
#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/range_lock.h"
#include "engine/task.h"
#include "qcow2/format/extended_l2_entry.h"
#include "qcow2/format/units.h"
#include "qcow2/guest_disk.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"
#include "qcow2/read_path.h"
#include "qcow2/write_path.h"

namespace ringcow {

// Zeroes and discards: changes of L2 entries where whole (sub)clusters are concerned. The clusters
// that nothing refers to any more are given back after the next flush (see DeferredFrees).
//
// No order is needed: an entry that reads as zeroes refers to nothing new, and whatever it replaces
// stays as it was until the new entry is durable.
//
// An external data file has no clusters to be given back: space goes by a punch, before the entry
// changes. (Meanwhile, and after a crash, the old entry shows the punched bytes, that is zeroes.)
// One that is a raw image by itself gets its zeroes written, and entries stay as they are: what it
// holds is what the guest reads, at every instant and whatever else is under way.
class ZeroPath {
 public:
  // `changing` as in WritePath, and shared with it.
  ZeroPath(Metadata& metadata, Mapper& mapper, ReadPath& reader, WritePath& writer,
           RangeLock& changing, bool has_backing);

  // `length` > 0, inside the virtual disk. Version 2 has no zero clusters: zeroes are written
  // there, where it does not read as zeroes already.
  Task<absl::Status> WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner);

  // Whole subclusters, or up to the end of the virtual disk, of a version 3 image, none of which
  // has data. The caller holds `changing` for all clusters of the range.
  Task<absl::Status> ZeroLocked(GuestOffset offset, uint64_t length);

  // Clusters that lie in the range as a whole read as zeroes afterwards; parts of clusters stay as
  // they are. Nothing is done where version 2 would show the backing file's old bytes.
  Task<absl::Status> Discard(GuestOffset offset, uint64_t length);

  // Whole clusters, or up to the end of the virtual disk: they are unallocated afterwards, and read
  // from the backing file. Not for guests.
  Task<absl::Status> Unmap(GuestOffset offset, uint64_t length);

 private:
  struct Range {
    GuestOffset begin;
    GuestOffset end;
    bool empty() const { return begin >= end; }
  };
  // What becomes of an entry, where it is to change for some of its subclusters; nothing when
  // zeroes have to be written there instead.
  using NextEntry =
      absl::FunctionRef<std::optional<ExtendedL2Entry>(ExtendedL2Entry, SubclusterRange)>;
  // Where there is no L2 table.
  enum class Holes { kFill, kLeave };

  // The end of the virtual disk counts as the end of a `unit`: a cluster or a subcluster.
  GuestOffset AlignEndUp(GuestOffset end, uint64_t unit) const;
  // Changes the entries of whole subclusters.
  Task<absl::Status> Change(Range units, Holes holes, NextEntry next);
  // The same under the caller's lock, inside one L2 table.
  Task<absl::Status> ChangeLocked(Range units, Holes holes, NextEntry next);
  Task<absl::Status> ChangeCluster(const Mapper::L2Slice& slice, uint64_t i, Range units,
                                   NextEntry next);
  Task<absl::Status> ZeroUnits(Range units, ZeroManner manner);
  // In a data file that is raw; and in another, where it costs nothing.
  Task<absl::Status> ZeroRawData(Range range, ZeroManner manner);
  Task<void> PunchData(Range range);
  // What of `range` the data file has: nothing else can be other than zeroes.
  Range InDataFile(Range range) const;
  // A part of one subcluster.
  Task<absl::Status> ZeroPart(Range part, ZeroManner manner);
  Task<absl::StatusOr<bool>> IsZeroAround(Range part, Range unit);
  // Under the caller's lock.
  Task<absl::Status> WriteZeroBytes(Range range);

  Metadata& metadata_;
  Mapper& mapper_;
  ReadPath& reader_;
  WritePath& writer_;
  RangeLock& changing_;
  const bool has_backing_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_ZERO_PATH_H_
