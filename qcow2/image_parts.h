#ifndef RINGCOW_QCOW2_IMAGE_PARTS_H_
#define RINGCOW_QCOW2_IMAGE_PARTS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/range_lock.h"
#include "qcow2/allocator.h"
#include "qcow2/bitmaps.h"
#include "qcow2/cache_cleaner.h"
#include "qcow2/compressed_writer.h"
#include "qcow2/copy_on_read.h"
#include "qcow2/deferred_frees.h"
#include "qcow2/growth.h"
#include "qcow2/holes.h"
#include "qcow2/image.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"
#include "qcow2/open.h"
#include "qcow2/read_path.h"
#include "qcow2/requests.h"
#include "qcow2/resize.h"
#include "qcow2/snapshots.h"
#include "qcow2/vm_state.h"
#include "qcow2/write_path.h"
#include "qcow2/zero_path.h"

namespace ringcow {

// What an open image consists of, in the order in which each rests on those before it, and what its
// operations have in common: who may change something, and what follows a change or a failure.
struct Image::Parts {
  Parts(Disk& disk, const CheckedHeader& read, const OpenOptions& options);

  absl::Status CheckRange(GuestOffset offset, uint64_t length) const;
  // Whether a request may change these bytes.
  absl::Status CheckChange(GuestOffset offset, uint64_t length) const;
  // Whether these bytes can be written compressed.
  absl::Status CheckCompressible(GuestOffset offset, uint64_t length) const;
  // Says in `has_room` whether the L1 table is large enough, without which nothing is written.
  Task<absl::Status> WriteVmState(uint64_t position, std::span<const std::byte> from,
                                  bool& has_room);
  // Says in `done` how much of the beginning of `from` was written.
  Task<absl::Status> WriteCompressed(GuestOffset offset, std::span<const std::byte> from,
                                     uint64_t& done);
  // Clusters that wait to be freed, beyond which a request flushes.
  static constexpr uint64_t kMostClustersWaiting = 16384;
  // Discarded bytes that wait to be freed, beyond which a write has them freed for itself.
  static constexpr uint64_t kMostBytesWaiting = uint64_t{16} << 20;
  // What waits to be freed is bounded: it is space that a guest cannot use.
  bool EndsWithFlush() const { return is_writethrough || frees.clusters() > kMostClustersWaiting; }
  // Whether so much was discarded that a flush is better than a larger file.
  bool CanReuseMuch() const {
    return frees.discarded_clusters() * metadata.geometry.cluster_bytes() > kMostBytesWaiting;
  }
  // Ends a request that changed something.
  Task<absl::Status> EndChange();
  Task<absl::Status> Flush();
  Task<absl::Status> Close();
  // In the midst of guest writes, of which more will follow: the image is marked for what it meets.
  Task<absl::Status> FlushForGuest();
  Task<absl::Status> Empty();
  // What becomes of a request that ended with `status`, not OK: where it met a corruption, the
  // image is marked, and no more writes are accepted.
  enum class Request : bool { kRead, kChange };
  Task<absl::Status> Failed(Request request, absl::Status status);
  // Runs an operation with no guest request under way.
  Task<absl::Status> RunAlone(Task<absl::Status> operation);
  // Whether the image can become smaller; marks it as corrupt if its refcounts say that it cannot.
  Task<absl::Status> CheckShrinkable();
  Task<absl::Status> ResizeTo(uint64_t virtual_size, Preallocation preallocation);
  Task<absl::Status> RunOnSnapshots(Task<absl::Status> operation);
  Task<absl::StatusOr<uint64_t>> NeededBytes();
  Task<absl::Status> TrimFiles();

  Disk& disk;
  const bool read_only;
  GuestDisk* const backing;
  Disk* const data_file;  // null without one
  const bool is_writethrough;
  const uint64_t size_when_opened;
  const bool trims_data_file;  // nobody else's bytes are behind the guest's
  bool has_shrunk = false;
  bool is_marked = false;  // as corrupt, by this process
  Metadata metadata;
  Requests requests;
  RangeLock changing;  // guest clusters, in bytes, whose entries are being changed
  Growth growth;
  Allocator allocator;
  DeferredFrees frees;
  Mapper mapper;
  ReadPath reader;
  WritePath writer;
  CompressedWriter compressor;
  ZeroPath zeroer;
  CopyOnRead copier;
  const bool copies_on_read;
  CacheCleaner cleaner;
  Holes holes;
  VmState vm_state;
  Snapshots snapshots;
  Bitmaps bitmaps;
  class Resize resize;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_IMAGE_PARTS_H_
