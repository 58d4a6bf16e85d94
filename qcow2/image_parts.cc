#include "qcow2/image_parts.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/corruption.h"
#include "qcow2/leak.h"

namespace ringcow {
namespace {

MetadataOptions MetadataOptionsOf(const OpenOptions& options) {
  return {options.write_back,
          options.l2_cache_bytes,
          options.refcount_cache_bytes,
          options.cache_slice_bytes,
          options.cache_read_bytes,
          options.read_only ? OverlapCheck::kNone : options.overlap_check,
          options.events,
          options.corruption,
          options.read_only};
}

AheadOptions AheadOptionsOf(const OpenOptions& options) {
  return {options.reserve_refcounts, options.record_reserve, options.write_zeroes_ahead};
}

class ResumesReserving {
 public:
  explicit ResumesReserving(Allocator& allocator) : allocator_(allocator) {}
  ResumesReserving(const ResumesReserving&) = delete;
  ResumesReserving& operator=(const ResumesReserving&) = delete;
  ~ResumesReserving() { allocator_.ResumeReserving(); }

 private:
  Allocator& allocator_;
};

}  // namespace

Image::Parts::Parts(Disk& disk, const CheckedHeader& read, const OpenOptions& options)
    : disk(disk),
      read_only(options.read_only),
      backing(options.backing),
      data_file(options.data_file),
      is_writethrough(options.write_back.mode == CacheMode::kWritethrough),
      size_when_opened(disk.size()),
      trims_data_file(data_file != nullptr && data_file->size() <= read.geometry.virtual_size()),
      metadata(disk, read.header, read.geometry, MetadataOptionsOf(options), data_file),
      requests(disk.loop()),
      changing(disk.loop()),
      growth(disk, options.grow_ahead ? Growth::Manner::kAhead : Growth::Manner::kNeeded),
      allocator(metadata, growth, AheadOptionsOf(options)),
      frees(metadata, allocator, requests, options.pass_discard),
      mapper(metadata, allocator, frees),
      reader(metadata, mapper, options.backing),
      // Who stops a request to look at it wants others that write to its cluster to wait.
      writer(metadata, mapper, allocator, reader, changing,
             options.enter_zero_clusters_early && options.events == nullptr),
      compressor(metadata, mapper, allocator, writer, changing, options.workers),
      zeroer(metadata, mapper, reader, writer, changing, options.backing != nullptr),
      copier(metadata, mapper, reader, writer, zeroer, changing),
      // Without a backing file there are zeroes to be copied, which version 2 cannot enter.
      copies_on_read(options.copy_on_read && !options.read_only &&
                     (options.backing != nullptr || read.geometry.version() >= 3)),
      cleaner(metadata, options.cache_clean_interval),
      holes(metadata, options.stored_bytes),
      vm_state(metadata, allocator, reader, writer),
      snapshots(metadata, allocator, options.pass_discard.snapshot),
      bitmaps(metadata, allocator),
      resize(metadata, allocator, frees, mapper, reader, zeroer) {}

absl::Status Image::Parts::CheckRange(GuestOffset offset, uint64_t length) const {
  const uint64_t size = metadata.geometry.virtual_size();
  if (offset.value() <= size && length <= size - offset.value()) {
    return is_marked ? metadata.write_back.failure() : absl::OkStatus();
  }
  return absl::OutOfRangeError(
      absl::StrFormat("'%s': %d bytes at guest offset %#x are beyond its "
                      "end at %#x",
                      disk.name(), length, offset.value(), size));
}

absl::Status Image::Parts::CheckChange(GuestOffset offset, uint64_t length) const {
  RETURN_IF_ERROR(CheckRange(offset, length));
  if (read_only) {
    return absl::PermissionDeniedError(absl::StrFormat("'%s' is open read-only", disk.name()));
  }
  return metadata.write_back.failure();
}

Task<absl::Status> Image::Parts::Failed(Request request, absl::Status status) {
  const std::optional<Corruption> met = CorruptionOf(status);
  if (!met.has_value()) co_return status;
  status = WithoutCorruption(std::move(status));
  if (met->kind == Corruption::Kind::kOverlap && request == Request::kRead) co_return status;
  if (read_only) metadata.TellCorruption(met->what, CorruptionListener::Image::kGoesOn);
  if (read_only || !metadata.write_back.failure().ok()) {
    co_return metadata.AfterCorruption(std::move(status));
  }
  const bool is_leaking = IsLeaking(status);
  const std::string& what = request == Request::kChange ? met->told_to_writers : met->what;
  const absl::Status why(
      status.code(),
      absl::StrFormat("'%s': qcow2: Marking image as corrupt: %s; further corruption "
                      "events will be suppressed",
                      disk.name(), what));
  is_marked = true;
  metadata.TellCorruption(what, CorruptionListener::Image::kIsMarked);
  CO_RETURN_IF_ERROR(co_await metadata.MarkCorrupt(metadata.AfterCorruption(
      ErrnoStatus(ENOMEDIUM, absl::StrFormat("'%s' was marked as corrupt", disk.name())))));
  co_return metadata.AfterCorruption(is_leaking ? Leaking(why) : why);
}

Task<absl::Status> Image::Parts::EndChange() {
  if (EndsWithFlush()) co_return co_await FlushForGuest();
  co_return absl::OkStatus();
}

Task<absl::Status> Image::Parts::Flush() {
  const Version made = metadata.write_back.now();
  CO_RETURN_IF_ERROR(co_await metadata.write_back.Flush());
  co_return co_await frees.Apply(made);
}

Task<absl::Status> Image::Parts::Close() {
  // At worst this leaks clusters: what the guest wrote is flushed all the same.
  const absl::Status given_back = co_await allocator.GiveBackReserve();
  CO_RETURN_IF_ERROR(co_await Flush());
  // The first flush made the removals durable whose refcounts the second one writes.
  CO_RETURN_IF_ERROR(co_await Flush());
  CO_RETURN_IF_ERROR(co_await bitmaps.Store());
  CO_RETURN_IF_ERROR(co_await TrimFiles());
  co_return given_back;
}

Task<absl::Status> Image::Parts::FlushForGuest() {
  if (read_only) co_return absl::OkStatus();
  co_await allocator.ReserveAhead();
  absl::Status status = co_await Flush();
  if (!status.ok()) status = co_await Failed(Request::kChange, std::move(status));
  co_return status;
}

Task<absl::Status> Image::Parts::RunAlone(Task<absl::Status> operation) {
  CO_RETURN_IF_ERROR(CheckChange(GuestOffset(0), 0));
  const Requests::Exclusive alone = co_await requests.BeginExclusive();
  // Flushes are no requests: they come at any time, and must not reserve what the operation takes.
  const ResumesReserving afterwards(allocator);
  // With no request under way, the flush gives back all that was waiting for it.
  absl::Status status = co_await allocator.GiveBackReserve();
  if (status.ok()) status = co_await Flush();
  if (status.ok()) status = co_await std::move(operation);
  if (status.ok()) status = co_await Flush();
  if (!status.ok()) status = co_await Failed(Request::kChange, std::move(status));
  co_return status;
}

// Where the file has to reach.
Task<absl::StatusOr<uint64_t>> Image::Parts::NeededBytes() {
  const Geometry& geometry = metadata.geometry;
  // A cluster in which the file ended when it was opened may have been written to since.
  uint64_t end =
      std::max(AlignUp(size_when_opened, geometry.cluster_bytes()), allocator.taken_end().value());
  if (has_shrunk) {
    CO_ASSIGN_OR_RETURN(const ClusterIndex used_end, co_await allocator.refcounts().UsedEnd());
    // Whatever refcounts say, an image is nothing without these.
    const HostOffset tables_end = std::max(metadata.l1.end(), metadata.refcount_table.end());
    // Counts of nothing at all are wrong, and tell nothing.
    if (used_end.value() > 0) {
      end = std::min(end, std::max(geometry.OffsetOf(used_end), tables_end).value());
    }
  }
  // The rest of a last cluster that only holds this is empty, and QEMU's file ends here.
  const uint64_t bitmaps_end = bitmaps.stored_end().value();
  co_return AlignUp(bitmaps_end, geometry.cluster_bytes()) == end ? bitmaps_end : end;
}

// Should a crash undo this, a file is only longer than it has to be.
Task<absl::Status> Image::Parts::TrimFiles() {
  CO_ASSIGN_OR_RETURN(const uint64_t needed, co_await NeededBytes());
  // What was grown ahead and not used is given back. A block device has the size it has.
  if (disk.size() > needed) {
    const absl::Status status = co_await disk.Truncate(needed);
    if (ErrnoOf(status) != EINVAL) CO_RETURN_IF_ERROR(status);
  }
  // Writes of whole blocks or clusters can reach beyond the guest's last byte.
  const uint64_t virtual_size = metadata.geometry.virtual_size();
  if (!trims_data_file || data_file->size() <= virtual_size) co_return absl::OkStatus();
  co_return co_await data_file->Truncate(virtual_size);
}

}  // namespace ringcow
