#ifndef RINGCOW_QCOW2_WRITE_PATH_H_
#define RINGCOW_QCOW2_WRITE_PATH_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/range_lock.h"
#include "engine/task.h"
#include "qcow2/allocator.h"
#include "qcow2/copy_on_write.h"
#include "qcow2/format/units.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"
#include "qcow2/read_path.h"

namespace ringcow {

// Guest writes. Bytes whose cluster the image owns go straight to it. Others get a new cluster: its
// refcount is raised in memory, the data is written with what has to be copied around it, and when
// that is done the L2 entry is set in memory. No metadata is written in a request's path, unless
// the cache is full or writethrough.
//
// `changing` locks the guest clusters (in bytes) whose entries are about to change, so that two
// writes to one cluster do not get a host cluster each. Clusters that may be written where they are
// are never locked.
class WritePath {
 public:
  // `enters_early`: clusters that make no difference to the guest are entered before their data is
  // written, and are no longer locked while it is.
  WritePath(Metadata& metadata, Mapper& mapper, Allocator& allocator, ReadPath& reader,
            RangeLock& changing, bool enters_early);

  // `from` is not empty and lies inside the virtual disk.
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from);
  // The same for a caller that holds `changing` for all clusters of the range.
  Task<absl::Status> WriteLocked(GuestOffset offset, std::span<const std::byte> from);

 private:
  // What follows a part for which clusters were allocated is put behind it where there is room.
  enum class Part : uint8_t { kFirst, kNext };

  Task<absl::Status> WritePieces(GuestOffset offset, std::span<const std::byte> from,
                                 Mapping first);
  Task<absl::Status> WritePiece(GuestOffset offset, std::span<const std::byte> from,
                                Mapping mapping, Part part);
  // `mapping` of `offset`, and what follows it in up to `bytes` bytes of its L2 table and can be
  // written with it. Its kind is that of a part that is neither zero nor, in its place, normal.
  Mapping WithNext(Mapping mapping, GuestOffset offset, uint64_t bytes) const;
  static bool NeedsNewCluster(const Mapping& mapping);
  bool MayWriteInPlace(const Mapping& mapping) const;
  // Whether all that ShowRawData has entered is durable: until then nothing is written in place.
  bool IsShown() const;
  absl::Status GuardInPlace(const Mapping& mapping, uint64_t length) const;
  Task<absl::Status> WriteChanging(GuestOffset offset, std::span<const std::byte> from, Part part);

  // What became of the front of some bytes to be written.
  struct Placed {
    uint64_t bytes = 0;
    // Where they are still to be written; their clusters are entered. Nothing when they are.
    std::optional<HostOffset> host = std::nullopt;
    bool is_new = false;  // in clusters that were allocated for them
  };
  // For a caller that holds `changing` for the first cluster of `from` at least.
  Task<absl::StatusOr<Placed>> Place(GuestOffset offset, std::span<const std::byte> from,
                                     Part part);
  Task<absl::StatusOr<Placed>> Allocate(GuestOffset offset, std::span<const std::byte> from,
                                        Mapping mapping, Part part);
  // Whether the entry, durable without the data, would show what the guest must not see.
  bool MustFollowData(const CopyOnWrite::Filling& filling) const;
  Task<absl::Status> FillAndEnter(const Mapper::L2Slice& slice, FilledRun filled,
                                  CopyOnWrite::Filling filling, std::span<const std::byte> from);
  // Makes the tables show what they do not of a raw data file, there and in the rest of its
  // clusters, durably: zeroes, and space that is the guest's already.
  Task<absl::Status> ShowRawData(GuestOffset offset, uint64_t length);
  // Host clusters for guest clusters from that of `offset` on; fewer, maybe, for a later part.
  Task<absl::StatusOr<AllocatedRun>> Clusters(GuestOffset offset, uint64_t clusters, Part part);
  Task<absl::StatusOr<AllocatedRun>> AtSameOffset(GuestOffset offset, uint64_t clusters);
  // What a write of `length` bytes has to fill of `run`: whole subclusters, but not the rest of one
  // that has its data there; and, when the data moves to another host cluster, all that had data in
  // the old one.
  absl::StatusOr<FilledRun> ToFill(const Mapper::L2Slice& slice, const AllocatedRun& run,
                                   GuestOffset offset, uint64_t length, bool moves) const;

  Metadata& metadata_;
  Mapper& mapper_;
  Allocator& allocator_;
  ReadPath& reader_;
  CopyOnWrite copy_on_write_;
  RangeLock& changing_;
  const bool enters_early_;
  Version shown_ = 0;  // the newest change by ShowRawData
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_WRITE_PATH_H_
