#include "qcow2/compressed_writer.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/scope.h"
#include "engine/status_macros.h"
#include "qcow2/corruption.h"
#include "qcow2/format/l2_entry.h"

namespace ringcow {
namespace {

// Of guest bytes: enough for each worker to be busy and for writes to be large.
constexpr uint64_t kBatchBytes = uint64_t{1} << 20;
// What one call of a worker compresses at least, where clusters are smaller.
constexpr uint64_t kBytesInACall = uint64_t{1} << 16;
// The vectors of one write.
constexpr uint64_t kMostClustersInBatch = 512;

}  // namespace

CompressedWriter::CompressedWriter(Metadata& metadata, Mapper& mapper, Allocator& allocator,
                                   WritePath& writer, RangeLock& changing, WorkerPool* workers)
    : metadata_(metadata),
      mapper_(mapper),
      allocator_(allocator),
      writer_(writer),
      changing_(changing),
      on_loop_(metadata.disk.loop()),
      workers_(workers != nullptr ? *workers : on_loop_) {}

uint64_t CompressedWriter::ClustersInBatch() const {
  const uint64_t wanted =
      std::max<uint64_t>(kBatchBytes / metadata_.geometry.cluster_bytes(), 2 * workers_.width());
  return std::min(wanted, kMostClustersInBatch);
}

GuestOffset CompressedWriter::ClusterOf(const Batch& batch, size_t i) const {
  return batch.offset + i * metadata_.geometry.cluster_bytes();
}

std::span<const std::byte> CompressedWriter::GuestBytes(const Batch& batch, size_t first,
                                                        size_t end) const {
  const uint64_t cluster_bytes = metadata_.geometry.cluster_bytes();
  const uint64_t begin = first * cluster_bytes;
  return batch.from.subspan(begin, std::min(end * cluster_bytes, batch.from.size()) - begin);
}

Task<absl::Status> CompressedWriter::Write(GuestOffset offset, std::span<const std::byte> from,
                                           uint64_t& done) {
  const uint64_t batch_bytes = ClustersInBatch() * metadata_.geometry.cluster_bytes();
  RangeLock::Hold hold(changing_, offset.value(),
                       AlignUp(offset + from.size(), metadata_.geometry.cluster_bytes()).value());
  co_await hold;
  Scope writing(metadata_.disk.loop());
  absl::Status status;
  Batch written;
  done = 0;
  for (uint64_t at = 0; at < from.size() && status.ok(); at += batch_bytes) {
    Batch next = MakeBatch(offset + at, from.subspan(at, std::min(batch_bytes, from.size() - at)));
    status = co_await Compress(next);
    // Written one after the other: in the guest's order, and none behind one that failed.
    status.Update(co_await writing.Join());
    if (!status.ok()) break;
    written = std::move(next);
    writing.Spawn(WriteOut(written, done));
  }
  status.Update(co_await writing.Join());
  co_return status;
}

CompressedWriter::Batch CompressedWriter::MakeBatch(GuestOffset offset,
                                                    std::span<const std::byte> from) {
  const uint64_t clusters = metadata_.geometry.ClustersFor(from.size());
  return {.offset = offset,
          .from = from,
          .streams = buffers_.Get(clusters * metadata_.geometry.cluster_bytes()),
          .stream_bytes = std::vector<size_t>(clusters)};
}

Task<absl::Status> CompressedWriter::Compress(Batch& batch) {
  const uint64_t in_a_call =
      std::max<uint64_t>(kBytesInACall / metadata_.geometry.cluster_bytes(), 1);
  Scope parts(metadata_.disk.loop());
  for (size_t first = 0; first < batch.clusters(); first += in_a_call) {
    parts.Spawn(CompressPart(batch, first, std::min(first + in_a_call, batch.clusters())));
  }
  co_return co_await parts.Join();
}

Task<absl::Status> CompressedWriter::CompressPart(Batch& batch, size_t first, size_t end) {
  CO_ASSIGN_OR_RETURN(std::unique_ptr<ClusterCompressor> compressor, TakeCompressor());
  const uint64_t cluster_bytes = metadata_.geometry.cluster_bytes();
  // The end of the disk is compressed with zeroes behind it, to a whole cluster.
  AlignedBuffer padded;
  if (GuestBytes(batch, first, end).size() < (end - first) * cluster_bytes) {
    const std::span<const std::byte> last = GuestBytes(batch, end - 1, end);
    padded = AlignedBuffer(cluster_bytes);
    std::memcpy(padded.data(), last.data(), last.size());
    std::memset(padded.data() + last.size(), 0, cluster_bytes - last.size());
  }
  co_await workers_.Run([&] {
    for (size_t i = first; i < end; ++i) {
      const bool is_padded = padded && i == end - 1;
      const std::optional<size_t> bytes =
          compressor->Compress(is_padded ? padded.span() : GuestBytes(batch, i, i + 1),
                               batch.streams.span().subspan(i * cluster_bytes, cluster_bytes));
      batch.stream_bytes[i] = bytes.value_or(0);
    }
  });
  compressors_.push_back(std::move(compressor));
  co_return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ClusterCompressor>> CompressedWriter::TakeCompressor() {
  if (compressors_.empty()) return ClusterCompressor::Create(metadata_.header.compression_type);
  std::unique_ptr<ClusterCompressor> compressor = std::move(compressors_.back());
  compressors_.pop_back();
  return compressor;
}

Task<absl::Status> CompressedWriter::WriteOut(Batch& batch, uint64_t& done) {
  for (size_t first = 0; first < batch.clusters();) {
    const bool is_packed = batch.stream_bytes[first] > 0;
    size_t end = first + 1;
    while (end < batch.clusters() && (batch.stream_bytes[end] > 0) == is_packed) ++end;
    if (is_packed) {
      CO_RETURN_IF_ERROR(co_await WritePacked(batch, first, end, done));
    } else {
      const std::span<const std::byte> bytes = GuestBytes(batch, first, end);
      CO_RETURN_IF_ERROR(co_await writer_.WriteLocked(ClusterOf(batch, first), bytes));
      done += bytes.size();
    }
    first = end;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> CompressedWriter::WritePacked(const Batch& batch, size_t first, size_t end,
                                                 uint64_t& done) {
  std::vector<HostOffset> places;
  const absl::Status placed = co_await Place(batch, first, end, places);
  absl::Status status = co_await WriteStreams(batch, first, places);
  for (size_t i = 0; i < places.size(); ++i) {
    const size_t bytes = batch.stream_bytes[first + i];
    if (status.ok()) status = co_await Enter(ClusterOf(batch, first + i), places[i], bytes);
    if (status.ok()) {
      done += GuestBytes(batch, first + i, first + i + 1).size();
    } else {
      status.Update(co_await allocator_.RemoveReference(
          ClustersOf(metadata_.geometry, {places[i], bytes}), /*is_l2_table=*/false));
    }
  }
  co_return status.ok() ? placed : status;
}

Task<absl::Status> CompressedWriter::Place(const Batch& batch, size_t first, size_t end,
                                           std::vector<HostOffset>& places) {
  places.reserve(end - first);
  for (size_t i = first; i < end; ++i) {
    // Brings the L2 table first, as QEMU does: so its place does not depend on the batches.
    CO_ASSIGN_OR_RETURN(const Mapper::L2Slice slice,
                        co_await mapper_.SliceForChange(ClusterOf(batch, i)));
    CO_RETURN_IF_ERROR(CheckUnallocated(slice, ClusterOf(batch, i)));
    const absl::StatusOr<HostOffset> place =
        co_await allocator_.AllocateBytes(batch.stream_bytes[i]);
    if (!place.ok()) co_return WithAllocation(place.status(), "compressed cluster");
    places.push_back(*place);
  }
  co_return absl::OkStatus();
}

absl::Status CompressedWriter::CheckUnallocated(const Mapper::L2Slice& slice,
                                                GuestOffset cluster) const {
  ASSIGN_OR_RETURN(const ExtendedL2Entry entry, mapper_.EntryAt(slice, 0));
  const bool is_compressed = entry.entry().kind() == L2Entry::Kind::kCompressed;
  if (!is_compressed && !entry.host_offset().has_value()) return absl::OkStatus();
  return ErrnoStatus(
      EIO, absl::StrFormat("'%s': a compressed cluster cannot replace the one at guest offset %#x",
                           metadata_.disk.name(), cluster.value()));
}

Task<absl::Status> CompressedWriter::WriteStreams(const Batch& batch, size_t first,
                                                  std::span<const HostOffset> places) {
  Scope runs(metadata_.disk.loop());
  for (size_t begin = 0; begin < places.size();) {
    size_t end = begin + 1;
    while (end < places.size() &&
           places[end] == places[end - 1] + batch.stream_bytes[first + end - 1]) {
      ++end;
    }
    runs.Spawn(WriteRun(batch, first + begin, end - begin, places[begin]));
    begin = end;
  }
  co_return co_await runs.Join();
}

Task<absl::Status> CompressedWriter::WriteRun(const Batch& batch, size_t first, size_t count,
                                              HostOffset place) {
  std::vector<iovec> vectors;
  vectors.reserve(count);
  for (size_t i = first; i < first + count; ++i) {
    std::byte* const stream = batch.streams.data() + i * metadata_.geometry.cluster_bytes();
    vectors.push_back({stream, batch.stream_bytes[i]});
  }
  co_return co_await metadata_.disk.WriteV(place, vectors);
}

Task<absl::Status> CompressedWriter::Enter(GuestOffset cluster, HostOffset place, size_t bytes) {
  CO_ASSIGN_OR_RETURN(const Mapper::L2Slice slice, co_await mapper_.SliceForChange(cluster));
  co_return co_await mapper_.EnterCompressed(slice, place, bytes);
}

}  // namespace ringcow
