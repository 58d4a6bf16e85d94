#ifndef RINGCOW_QCOW2_IMAGE_H_
#define RINGCOW_QCOW2_IMAGE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/write_back.h"
#include "engine/disk.h"
#include "engine/task.h"
#include "engine/worker_pool.h"
#include "qcow2/blkdebug/event.h"
#include "qcow2/corruption.h"
#include "qcow2/format/bitmap_directory.h"
#include "qcow2/format/dirty_bitmap.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/options.h"
#include "qcow2/format/snapshot_table.h"
#include "qcow2/guest_disk.h"
#include "qcow2/overlap_guard.h"
#include "qcow2/pass_discard_options.h"

namespace ringcow {

struct OpenOptions {
  bool read_only = false;
  WriteBackOptions write_back;
  // Memory for cached L2 tables and refcount blocks, in bytes. 0: what covers the whole image, at
  // most 32 MiB and 8 MiB.
  uint64_t l2_cache_bytes = 0;
  uint64_t refcount_cache_bytes = 0;
  // What is read and evicted at once: a power of two from 512 to the cluster size (larger values
  // are taken as the cluster size).
  uint32_t cache_slice_bytes = 4096;
  // What is read around a missing slice, while the cache has room for more: neighbours in the same
  // table, which one request brings in as fast as one slice. 0: nothing.
  uint32_t cache_read_bytes = 65536;
  // Grow the file in large steps ahead of allocation, so that data writes do not extend it; what
  // was not used is cut off on Close.
  bool grow_ahead = true;
  // Raise refcounts ahead of need, with those of a flush, so that most flushes have no refcounts to
  // wait for: one fsync instead of two. A crash leaks what was reserved, at most 64 MiB, and less
  // than twice of what was ever allocated since the image was opened, or 8 clusters.
  bool reserve_refcounts = true;
  // Record what is reserved in the header's cluster, where it has a sector to spare, as long as the
  // image is open: who opens it for writing after a crash gives it back at once, without looking
  // through the image. Others who write to it meanwhile, as QEMU, make the record void.
  bool record_reserve = true;
  // Write zeroes into what is reserved, ahead of need, while the guest flushes after each few
  // allocations. Costs the bytes of each new cluster once more, and saves the file system a commit
  // of its journal for each flush.
  bool write_zeroes_ahead = true;
  // Enter a cluster into its L2 table before its data is written where the guest cannot tell the
  // difference: where it read zeroes and the disk holds zeroes. Others that write to the cluster
  // meanwhile need not wait.
  bool enter_zero_clusters_early = true;
  // What a damaged image must not make a write overwrite.
  OverlapCheck overlap_check = OverlapCheck::kCached;
  // What becomes of the space of clusters that nothing refers to any more.
  PassDiscardOptions pass_discard;
  // Tables that were not used for so long leave the caches, with the next read or write.
  // 0: they stay.
  std::chrono::milliseconds cache_clean_interval{0};
  // The backing file, open for reading, which an image that names one needs. It must outlive the
  // image. (ImageChain opens all of them.)
  GuestDisk* backing = nullptr;
  // What is read from the backing file becomes the image's own. Not with read_only.
  bool copy_on_read = false;
  // `backing`, or none, whatever the image names.
  bool replaces_backing = false;
  // The disk as it was at this snapshot, with the size it had; for reading only.
  std::optional<SnapshotChoice> snapshot = std::nullopt;
  // Who compresses. It must outlive the image, and may serve several images on its loop. Null: the
  // loop's own thread.
  WorkerPool* workers = nullptr;
  // The bytes that the disk takes on the host, if they are known. An image that is open for reading
  // tells by them whether it may have clusters that were never written (see GuestExtent::hole).
  std::optional<uint64_t> stored_bytes = std::nullopt;
  // Who is told what the image does in memory. It must outlive the image.
  EventListener* events = nullptr;
  // And who of damage that no request fails for. It must outlive the image, too.
  CorruptionListener* corruption = nullptr;
  // The external data file, which an image that has one needs; open for writing unless read_only.
  // It must outlive the image and be used by nobody else. (ImageChain opens it.)
  Disk* data_file = nullptr;
};

// A qcow2 image open for I/O: the public face of the format.
//
// Writes allocate in memory only: the data write is issued at once, and the refcount blocks and L2
// tables that it changed are written by a later Flush, in order. At every instant the file is a
// consistent image: after a crash at worst some clusters are leaked.
//
// After a failed fsync the image accepts no more writes (see WriteBack::failure). So it is when a
// request meets a table entry that names no possible place, or would overwrite metadata because
// of one (see OverlapGuard): the request fails with QEMU's sentence, "Marking image as corrupt:
// ...", and what comes later, reads too, with ENOMEDIUM; the image is marked, durably, where its
// version allows it.
class Image final : public GuestDisk {
 public:
  // `disk` must outlive the image and be used by nobody else; its lock (see FileLock) protects the
  // image as long as it is open. Fails with a sentence that names the disk and
  //   InvalidArgument     what is not qcow2, or contradicts the format
  //   Unimplemented       a feature this build cannot read
  //   FailedPrecondition  for writing: marked corrupt, or not closed cleanly and beyond repair;
  //                       a backing or data file that was not given
  //   NotFound            no such snapshot
  // and the disk's own errors. To open an image for writing that was not closed cleanly with lazy
  // refcounts repairs it first (see RepairImage).
  static Task<absl::StatusOr<std::unique_ptr<Image>>> Open(Disk& disk, OpenOptions options);
  ~Image() override;

  uint64_t size() const override;
  Task<absl::Status> Read(GuestOffset offset, std::span<std::byte> into) override;
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) override;
  Task<absl::Status> WriteCompressed(GuestOffset offset, std::span<const std::byte> from) override;
  Task<absl::Status> WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) override;
  Task<absl::Status> Discard(GuestOffset offset, uint64_t length) override;
  Task<absl::StatusOr<GuestExtent>> Find(GuestOffset offset, uint64_t length) override;
  Task<absl::StatusOr<bool>> AreKnownZero(GuestOffset offset, uint64_t length) override;
  std::optional<StoredBytes> TryLocate(GuestOffset offset, uint64_t length) override;
  Task<absl::Status> Flush() override;
  Task<absl::Status> Close() override;
  const DiskCounters& counters() const override;
  void ResetCounters() override;

  const std::vector<Snapshot>& snapshots() const;
  // Guest requests wait meanwhile, and everything is durable afterwards. `snapshot` says what the
  // new one is like, but for its L1 table and virtual size; an empty id becomes the next free one.
  // Errors: OutOfRange when a refcount of the image cannot become larger, Unimplemented for an
  // image with an external data file, and the disk's own.
  Task<absl::Status> CreateSnapshot(Snapshot snapshot);
  // The guest's disk becomes what it was, with the size it had. `index` is that in snapshots() when
  // it is this operation's turn; NotFound when there is none, FailedPrecondition while there are
  // bitmaps, which do not know what differs. IsLeaking where it has become so, and clusters of what
  // was before could not be given up.
  Task<absl::Status> ApplySnapshot(size_t index);
  // A failure behind which the snapshot is gone, but some of its clusters are not free, IsLeaking.
  Task<absl::Status> DeleteSnapshot(size_t index);
  // All snapshots say what version 3 demands of them, and old versions of QEMU did not write.
  Task<absl::Status> CompleteSnapshots();
  // No snapshot has zero clusters that version 2 cannot do without (see SnapshotZeroes).
  Task<absl::Status> ExpandSnapshotZeroes(std::function<void(uint64_t)> on_progress = nullptr);

  // The state of a virtual machine, which lies beside the disk and goes with it into snapshots:
  // `position` is in bytes from its beginning, and as large as one likes. What was never written
  // reads as zeroes. A change of the virtual size loses it. Errors: EFBIG to write more than the
  // format can describe, ENOTSUP for an image with an external data file, and those of Read and
  // Write.
  Task<absl::Status> ReadVmState(uint64_t position, std::span<std::byte> into);
  Task<absl::Status> WriteVmState(uint64_t position, std::span<const std::byte> from);

  // The persistent dirty bitmaps. What the guest changes is marked in those that are enabled
  // ("automatic"), and all of them are stored by Close; after a crash those that could be wrong are
  // found in_use, that is, inconsistent: they are kept, but can only be removed, and the image
  // cannot be resized with them. Images open for reading have them too, as they are stored. Errors,
  // in QEMU's words: NotFound, AlreadyExists, FailedPrecondition for one that is inconsistent,
  // InvalidArgument for a name or granularity that cannot be (see ValidateNewBitmap).
  Task<absl::StatusOr<std::vector<BitmapDirectoryEntry>>> ListBitmaps();
  Task<absl::StatusOr<DirtyBitmap>> ReadBitmap(std::string name);
  // Guest requests wait meanwhile. `granularity` is in bytes.
  Task<absl::Status> AddBitmap(std::string name, uint64_t granularity, bool enabled);
  Task<absl::Status> RemoveBitmap(std::string name);
  Task<absl::Status> ClearBitmap(std::string name);
  Task<absl::Status> SetBitmapEnabled(std::string name, bool enabled);
  // Sets what is set in `from`, of any image of this size; it must live until the task ends.
  Task<absl::Status> MergeBitmap(std::string name, const DirtyBitmap& from);

  // A new virtual size, rounded up to whole sectors. Guest requests wait meanwhile. What is added
  // reads as zeroes, and gets clusters as `preallocation` says; what is cut off is lost. Errors:
  // OutOfRange for more than the format can describe, FailedPrecondition for a version 2 image with
  // snapshots, whose table cannot say how large each is.
  Task<absl::Status> Resize(uint64_t virtual_size, Preallocation preallocation) override;

  // Gives up all that the image holds: it reads as its backing file does. Its snapshots stay.
  Task<absl::Status> Empty();

  const Header& header() const;
  const Geometry& geometry() const;
  // OK, or why writes are refused.
  const absl::Status& failure() const;

 private:
  struct Parts;
  explicit Image(std::unique_ptr<Parts> parts);

  std::unique_ptr<Parts> parts_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_IMAGE_H_
