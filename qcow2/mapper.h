#ifndef RINGCOW_QCOW2_MAPPER_H_
#define RINGCOW_QCOW2_MAPPER_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/table_cache.h"
#include "engine/mutex.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/deferred_frees.h"
#include "qcow2/format/extended_l2_entry.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/format/l2_entry.h"
#include "qcow2/format/units.h"
#include "qcow2/mapping.h"
#include "qcow2/metadata.h"

namespace ringcow {

// What the guest would see if the reference to new data became durable before the data.
enum class Exposure : uint8_t {
  kSame,   // what it saw before: both the guest and the disk had zeroes there
  kOther,  // stale bytes: the data must be durable first
};

// Host clusters that hold guest bytes: all of [begin, end), and of the subclusters that it begins
// and ends in. The first cluster of `run` is that of `begin`, the last that of `end`.
struct FilledRun {
  AllocatedRun run;
  GuestOffset begin;
  GuestOffset end;
};

// Without extended L2 entries a cluster is all 32 of its subclusters.
uint32_t SubclusterOf(GuestOffset offset, const Geometry& geometry);
// The part of [begin, end), whole subclusters, that lies in the guest cluster at `cluster`.
SubclusterRange SubclustersIn(const Geometry& geometry, GuestOffset cluster, GuestOffset begin,
                              GuestOffset end);

// Translates guest offsets through the L1 and L2 tables, and changes that translation.
//
// In an external data file each guest cluster has the host cluster at its own offset, as QEMU wants
// it, and none is counted: an entry that says otherwise is refused.
//
// Whoever changes entries holds a lock on their guest clusters, so that what Find said stays true
// until then. (Entries of other guest clusters in the same table may change meanwhile.)
class Mapper {
 public:
  Mapper(Metadata& metadata, Allocator& allocator, DeferredFrees& frees);

  // How guest bytes from `offset` on are mapped: at least one byte, at most `bytes`, which lie
  // inside the virtual disk. InvalidArgument, naming table and entry, where an entry is wrong.
  Task<absl::StatusOr<Mapping>> Find(GuestOffset offset, uint64_t bytes);
  // The same without suspending; nothing where the L2 table has to be read.
  std::optional<absl::StatusOr<Mapping>> TryFind(GuestOffset offset, uint64_t bytes) const;

  // What the tables say, also of a cluster behind the end of the file, which Find refuses: for who
  // does not go there.
  Task<absl::StatusOr<Mapping>> Describe(GuestOffset offset, uint64_t bytes);

  // Part of an L2 table, for changing entries in it.
  struct L2Slice {
    TablePin table;
    uint64_t first_entry = 0;   // the slot of the guest cluster that was asked for
    uint64_t entries = 0;       // slots from there to the end of the slice
    GuestOffset first_cluster;  // the guest cluster of first_entry
  };
  // The slice is the active table's own: where there was no L2 table, one is allocated; one that a
  // snapshot shares is copied.
  Task<absl::StatusOr<L2Slice>> SliceForChange(GuestOffset offset);
  // The same where nothing is to be allocated for what has no L2 table: nothing then.
  Task<absl::StatusOr<std::optional<L2Slice>>> ExistingSliceForChange(GuestOffset offset);

  // Enters `filled` from slot first_entry on, which becomes visible to the guest. Ordered on the
  // disk behind the refcounts and, for kOther, behind the data (that of a data file is durable
  // before any table, see WriteBack). References that the entries held are given up.
  Task<absl::Status> Enter(const L2Slice& slice, const FilledRun& filled, Exposure exposure);

  // The same for slot first_entry and a compressed cluster, `bytes` long at `place`.
  Task<absl::Status> EnterCompressed(const L2Slice& slice, HostOffset place, uint64_t bytes);

  // The valid entry in slot first_entry + i.
  absl::StatusOr<ExtendedL2Entry> EntryAt(const L2Slice& slice, uint64_t i) const;
  // Where EntryAt fails: see RemovableL2Slot.
  std::optional<ExtendedL2Entry> RemovableEntryAt(const L2Slice& slice, uint64_t i) const;
  // Puts `next` into slot first_entry + i. The clusters that the old entry, a valid one, referred
  // to and `next` does not lose a reference; `was` says what they were. (One that is not
  // aligned stays leaked, and whoever listens is told.) Dependencies of the slice are declared
  // before.
  void Replace(const L2Slice& slice, uint64_t i, ExtendedL2Entry next,
               DeferredFrees::Was was = DeferredFrees::Was::kData);

 private:
  absl::StatusOr<L1Entry> L1EntryFor(GuestOffset offset) const;
  // Makes sure that the active L2 table for `offset` exists and is not shared. Its place.
  Task<absl::StatusOr<HostOffset>> OwnL2Table(GuestOffset offset);
  // Allocates an L2 table for `l1_index`, as a copy of `old` if there is one, and links it.
  Task<absl::StatusOr<HostOffset>> NewL2Table(uint64_t l1_index, std::optional<HostOffset> old);
  Task<absl::Status> FillL2Table(const AllocatedRun& run, std::optional<HostOffset> old, Table& l1);
  // Where the slice for `offset` begins.
  HostOffset SliceAt(HostOffset l2_table, GuestOffset offset) const;
  L2Slice SliceIn(TablePin table, GuestOffset offset) const;
  Task<absl::StatusOr<L2Slice>> SliceOf(HostOffset l2_table, GuestOffset offset);
  // What most look-ups meet: bytes within one valid data cluster, in an image without subclusters
  // and data file. Nothing where it is anything else, which may be the same.
  std::optional<Mapping> PlainMappingIn(const L2Slice& slice, GuestOffset offset,
                                        uint64_t bytes) const;
  // Of `bytes` from `offset` on, the first of them in the cluster of `entry` and of this kind
  // there.
  Mapping MappingOf(ExtendedL2Entry entry, L2Entry::Kind kind, GuestOffset offset,
                    uint64_t bytes) const;
  // `status` of EntryAt, for a request at `offset` or before, with what a writer is told of it.
  absl::Status ToldToWriterAt(GuestOffset offset, const L2Slice& slice, uint64_t i,
                              absl::Status status) const;
  absl::StatusOr<Mapping> MappingIn(const L2Slice& slice, GuestOffset offset, uint64_t bytes) const;
  // Before recorded clusters may be entered: see RecordedReserve.
  bool IsCovered(const L2Slice& slice) const;
  Task<absl::Status> OrderBehindRecord(const L2Slice& slice);
  ExtendedL2Entry LoadSlot(const L2Slice& slice, uint64_t i) const;
  void GiveUp(L2Entry entry, DeferredFrees::Was was);

  Metadata& metadata_;
  Allocator& allocator_;
  DeferredFrees& frees_;
  const int slice_bits_;  // L2 entries a slice, as a power of two
  Mutex changing_l1_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_MAPPER_H_
