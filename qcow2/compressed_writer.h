#ifndef RINGCOW_QCOW2_COMPRESSED_WRITER_H_
#define RINGCOW_QCOW2_COMPRESSED_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/aligned_buffer.h"
#include "engine/buffer_pool.h"
#include "engine/range_lock.h"
#include "engine/task.h"
#include "engine/worker_pool.h"
#include "qcow2/allocator.h"
#include "qcow2/format/compression.h"
#include "qcow2/format/units.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"
#include "qcow2/write_path.h"

namespace ringcow {

// Writes clusters compressed. Each becomes a stream of its own, made by a worker; the streams are
// packed back to back in the order of the guest's clusters. What does not become smaller is written
// like any other data. As in QEMU, a compressed cluster replaces no cluster: what has one already
// is refused.
//
// A request goes through in batches, of which one is being compressed while the one before it is
// being written. Streams that lie next to each other are one write; when that is done the L2
// entries are set, ordered on the disk behind the refcounts and behind the data.
class CompressedWriter {
 public:
  // `workers` may be null: then everything is done on the loop's thread. `changing` as in
  // WritePath, and shared with it.
  CompressedWriter(Metadata& metadata, Mapper& mapper, Allocator& allocator, WritePath& writer,
                   RangeLock& changing, WorkerPool* workers);

  // Whole clusters; the last one of the virtual disk may be cut off where that ends. `from` is not
  // empty. EIO for the first cluster that is there already. Says in `done` how many bytes from the
  // beginning of `from` were written, also when it fails; others may have been, too.
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from, uint64_t& done);

 private:
  // Some guest clusters, and what has become of each.
  struct Batch {
    GuestOffset offset;
    std::span<const std::byte> from;
    BufferPool::Buffer streams;        // that of cluster i begins at i * cluster_bytes
    std::vector<size_t> stream_bytes;  // 0 where it is no smaller than the cluster

    size_t clusters() const { return stream_bytes.size(); }
  };
  uint64_t ClustersInBatch() const;
  Batch MakeBatch(GuestOffset offset, std::span<const std::byte> from);
  Task<absl::Status> Compress(Batch& batch);
  // Clusters [first, end) of the batch.
  Task<absl::Status> CompressPart(Batch& batch, size_t first, size_t end);

  // `done` grows with what is finished, from the beginning of the batch on.
  Task<absl::Status> WriteOut(Batch& batch, uint64_t& done);
  // Clusters [first, end), which all have a stream.
  Task<absl::Status> WritePacked(const Batch& batch, size_t first, size_t end, uint64_t& done);
  // Adds to `places` where the streams from `first` on are to lie, as far as that goes.
  Task<absl::Status> Place(const Batch& batch, size_t first, size_t end,
                           std::vector<HostOffset>& places);
  absl::Status CheckUnallocated(const Mapper::L2Slice& slice, GuestOffset cluster) const;
  Task<absl::Status> WriteStreams(const Batch& batch, size_t first,
                                  std::span<const HostOffset> places);
  // Those that lie next to each other.
  Task<absl::Status> WriteRun(const Batch& batch, size_t first, size_t count, HostOffset place);
  Task<absl::Status> Enter(GuestOffset cluster, HostOffset place, size_t bytes);
  // The bytes of the guest's clusters [first, end).
  std::span<const std::byte> GuestBytes(const Batch& batch, size_t first, size_t end) const;
  GuestOffset ClusterOf(const Batch& batch, size_t i) const;

  absl::StatusOr<std::unique_ptr<ClusterCompressor>> TakeCompressor();

  Metadata& metadata_;
  Mapper& mapper_;
  Allocator& allocator_;
  WritePath& writer_;
  RangeLock& changing_;
  WorkerPool on_loop_;
  WorkerPool& workers_;
  BufferPool buffers_;
  std::vector<std::unique_ptr<ClusterCompressor>> compressors_;  // that nobody uses now
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_COMPRESSED_WRITER_H_
