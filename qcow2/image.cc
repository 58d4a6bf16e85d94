#include "qcow2/image.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/invariant.h"
#include "engine/range_lock.h"
#include "engine/status_macros.h"
#include "qcow2/allocator.h"
#include "qcow2/bitmaps.h"
#include "qcow2/cache_cleaner.h"
#include "qcow2/compressed_writer.h"
#include "qcow2/copy_on_read.h"
#include "qcow2/corruption.h"
#include "qcow2/deferred_frees.h"
#include "qcow2/growth.h"
#include "qcow2/holes.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"
#include "qcow2/open.h"
#include "qcow2/read_path.h"
#include "qcow2/reclaim.h"
#include "qcow2/requests.h"
#include "qcow2/resize.h"
#include "qcow2/snapshot_zeroes.h"
#include "qcow2/snapshots.h"
#include "qcow2/vm_state.h"
#include "qcow2/write_path.h"
#include "qcow2/zero_path.h"

namespace ringcow {
namespace {

// Clusters that wait to be freed, beyond which a request flushes.
constexpr uint64_t kMostClustersWaiting = 16384;

// Discarded bytes that wait to be freed, beyond which a write has them freed for itself.
constexpr uint64_t kMostBytesWaiting = uint64_t{16} << 20;

MetadataOptions MetadataOptionsOf(const OpenOptions& options) {
  return {options.write_back,
          options.l2_cache_bytes,
          options.refcount_cache_bytes,
          options.cache_slice_bytes,
          options.cache_read_bytes,
          options.read_only ? OverlapCheck::kNone : options.overlap_check,
          options.events};
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

struct Image::Parts {
  Parts(Disk& disk, const CheckedHeader& read, const OpenOptions& options)
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
        writer(metadata, mapper, allocator, reader, changing, options.enter_zero_clusters_early),
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

  absl::Status CheckRange(GuestOffset offset, uint64_t length) const;
  // Whether a request may change these bytes.
  absl::Status CheckChange(GuestOffset offset, uint64_t length) const;
  // Whether these bytes can be written compressed.
  absl::Status CheckCompressible(GuestOffset offset, uint64_t length) const;
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from);
  // Says in `has_room` whether the L1 table is large enough, without which nothing is written.
  Task<absl::Status> WriteVmState(uint64_t position, std::span<const std::byte> from,
                                  bool& has_room);
  // Says in `done` how much of the beginning of `from` was written.
  Task<absl::Status> WriteCompressed(GuestOffset offset, std::span<const std::byte> from,
                                     uint64_t& done);
  // What waits to be freed is bounded: it is space that a guest cannot use.
  bool EndsWithFlush() const { return is_writethrough || frees.clusters() > kMostClustersWaiting; }
  // Whether so much was discarded that a flush is better than a larger file.
  bool CanReuseMuch() const {
    return frees.discarded_clusters() * metadata.geometry.cluster_bytes() > kMostBytesWaiting;
  }
  // Ends a request that changed something.
  Task<absl::Status> EndChange();
  Task<absl::Status> Flush();
  // The same in the midst of guest writes, of which more will follow.
  Task<absl::Status> FlushAndReserve();
  Task<absl::Status> Empty();
  // What becomes of a request that ended with `status`, not OK: where it met a corruption, the
  // image is marked, and no more writes are accepted.
  enum class Request : bool { kRead, kChange };
  Task<absl::Status> Failed(Request request, absl::Status status);
  // Runs an operation with no guest request under way.
  Task<absl::Status> RunAlone(Task<absl::Status> operation);
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

absl::Status Image::Parts::CheckRange(GuestOffset offset, uint64_t length) const {
  const uint64_t size = metadata.geometry.virtual_size();
  if (offset.value() <= size && length <= size - offset.value()) return absl::OkStatus();
  return absl::OutOfRangeError(
      absl::StrFormat("'%s': %d bytes at guest offset %#x are beyond its "
                      "end at %#x",
                      disk.name(), length, offset.value(), size));
}

Image::Image(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Image::~Image() = default;

Task<absl::StatusOr<std::unique_ptr<Image>>> Image::Open(Disk& disk, OpenOptions options) {
  CO_ASSIGN_OR_RETURN(CheckedHeader read, co_await ReadAndCheckHeader(disk, options.read_only));
  if (options.snapshot.has_value()) {
    RINGCOW_INVARIANT(options.read_only, "a snapshot is opened for reading only");
    CO_RETURN_IF_ERROR(co_await GoToSnapshot(disk, *options.snapshot, read));
  }
  if (!options.replaces_backing && read.header.backing_file.empty()) {
    options.backing = nullptr;
  } else if (!options.replaces_backing && options.backing == nullptr) {
    co_return absl::FailedPreconditionError(absl::StrFormat(
        "'%s': its backing file '%s' was not opened", disk.name(), read.header.backing_file));
  }
  if (!read.header.external_data()) {
    options.data_file = nullptr;
  } else if (options.data_file == nullptr) {
    co_return absl::FailedPreconditionError(
        absl::StrFormat("'%s': its data file '%s' was not opened", disk.name(),
                        read.header.extensions.external_data_file.value_or("")));
  }
  // The raw file would not read as the guest does.
  if (read.header.raw_external_data() && options.backing != nullptr) {
    co_return absl::InvalidArgumentError(absl::StrFormat(
        "'%s': Backing file and data-file-raw cannot be used at the same time", disk.name()));
  }
  // What a killed process wrote may be read back and still be lost in a power cut. Everything is
  // ordered behind what is read from here on, so that has to be durable.
  if (!options.read_only) {
    CO_RETURN_IF_ERROR(co_await disk.Fdatasync());
    if (options.data_file != nullptr) {
      CO_RETURN_IF_ERROR(co_await options.data_file->Fdatasync());
    }
  }
  auto parts = std::make_unique<Parts>(disk, read, options);
  CO_RETURN_IF_ERROR(co_await parts->metadata.Load());
  CO_RETURN_IF_ERROR(co_await parts->snapshots.Load());
  if (!options.read_only) {
    CO_RETURN_IF_ERROR(co_await ReclaimReserve(parts->metadata, parts->allocator.refcounts()));
    CO_RETURN_IF_ERROR(co_await ClearAutoclearFeatures(parts->metadata));
    CO_RETURN_IF_ERROR(co_await parts->bitmaps.Load());
    const absl::Status marked = co_await parts->bitmaps.BeginTracking();
    if (!marked.ok()) co_return co_await parts->Failed(Parts::Request::kChange, marked);
  }
  co_return std::unique_ptr<Image>(new Image(std::move(parts)));
}

uint64_t Image::size() const { return parts_->metadata.geometry.virtual_size(); }
const std::vector<Snapshot>& Image::snapshots() const { return parts_->snapshots.all(); }
const Header& Image::header() const { return parts_->metadata.header; }
const Geometry& Image::geometry() const { return parts_->metadata.geometry; }
const absl::Status& Image::failure() const { return parts_->metadata.write_back.failure(); }
const DiskCounters& Image::counters() const { return parts_->disk.counters(); }
void Image::ResetCounters() { parts_->disk.ResetCounters(); }

absl::Status Image::Parts::CheckChange(GuestOffset offset, uint64_t length) const {
  RETURN_IF_ERROR(CheckRange(offset, length));
  if (read_only) {
    return absl::PermissionDeniedError(absl::StrFormat("'%s' is open read-only", disk.name()));
  }
  return metadata.write_back.failure();
}

Task<absl::Status> Image::Parts::Failed(Request request, absl::Status status) {
  const std::optional<Corruption> met = CorruptionOf(status);
  if (read_only || !met.has_value() || !metadata.write_back.failure().ok()) co_return status;
  if (met->kind == Corruption::Kind::kOverlap && request == Request::kRead) co_return status;
  const absl::Status why(
      status.code(),
      absl::StrFormat("'%s': qcow2: Marking image as corrupt: %s; further corruption "
                      "events will be suppressed",
                      disk.name(), met->what));
  CO_RETURN_IF_ERROR(co_await metadata.MarkCorrupt(why));
  co_return why;
}

Task<absl::Status> Image::Parts::EndChange() {
  if (EndsWithFlush()) co_return co_await FlushAndReserve();
  co_return absl::OkStatus();
}

Task<absl::Status> Image::Parts::Flush() {
  const Version made = metadata.write_back.now();
  CO_RETURN_IF_ERROR(co_await metadata.write_back.Flush());
  co_return co_await frees.Apply(made);
}

Task<absl::Status> Image::Parts::FlushAndReserve() {
  co_await allocator.ReserveAhead();
  co_return co_await Flush();
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

Task<absl::Status> Image::Parts::Empty() {
  const uint64_t size = metadata.geometry.virtual_size();
  if (size == 0) co_return absl::OkStatus();
  metadata.Announce(DebugEvent::kEmptyImagePrepare);
  co_return co_await zeroer.Unmap(GuestOffset(0), size);
}

// Clusters of a data file have no refcounts: none can be shared.
Task<absl::Status> Image::Parts::RunOnSnapshots(Task<absl::Status> operation) {
  if (data_file == nullptr) co_return co_await RunAlone(std::move(operation));
  co_return ErrnoStatus(
      ENOTSUP, absl::StrFormat("'%s': snapshots of an image with a data file", disk.name()));
}

Task<absl::Status> Image::CreateSnapshot(Snapshot snapshot) {
  co_return co_await parts_->RunOnSnapshots(parts_->snapshots.Create(std::move(snapshot)));
}

Task<absl::Status> Image::ApplySnapshot(size_t index) {
  if (!parts_->bitmaps.empty()) {
    co_return absl::FailedPreconditionError("Device has active dirty bitmaps");
  }
  co_return co_await parts_->RunOnSnapshots(parts_->snapshots.Apply(index));
}

Task<absl::Status> Image::DeleteSnapshot(size_t index) {
  co_return co_await parts_->RunOnSnapshots(parts_->snapshots.Delete(index));
}

Task<absl::Status> Image::CompleteSnapshots() {
  co_return co_await parts_->RunOnSnapshots(parts_->snapshots.Complete());
}

Task<absl::Status> Image::ExpandSnapshotZeroes() {
  SnapshotZeroes zeroes(parts_->metadata, parts_->allocator, parts_->snapshots,
                        parts_->backing != nullptr);
  co_return co_await parts_->RunOnSnapshots(zeroes.Expand());
}

Task<absl::Status> Image::Resize(uint64_t virtual_size, Preallocation preallocation) {
  if (header().version < 3 && !snapshots().empty()) {
    co_return absl::FailedPreconditionError("Can't resize a v2 image which has snapshots");
  }
  if (virtual_size > kMaxFileOffset) {
    co_return absl::OutOfRangeError("The image size is too large for file format 'qcow2'");
  }
  co_return co_await parts_->RunAlone(
      parts_->ResizeTo(AlignUp(virtual_size, kSectorBytes), preallocation));
}

Task<absl::Status> Image::Parts::ResizeTo(uint64_t virtual_size, Preallocation preallocation) {
  CO_ASSIGN_OR_RETURN(const Geometry resized, metadata.geometry.Resized(virtual_size));
  CO_RETURN_IF_ERROR(co_await bitmaps.PrepareResize(resized));
  const uint64_t backing_bytes = backing != nullptr ? backing->size() : 0;
  const bool shrinks = virtual_size < metadata.geometry.virtual_size();
  absl::Status status = co_await resize.To(virtual_size, backing_bytes, preallocation);
  bitmaps.Resize();
  if (!shrinks || !status.ok()) co_return status;
  has_shrunk = true;
  // What was cut off is free from here on.
  CO_RETURN_IF_ERROR(co_await Flush());
  co_return co_await allocator.GiveUpEmptyBlocks();
}

Task<absl::StatusOr<std::vector<BitmapDirectoryEntry>>> Image::ListBitmaps() {
  CO_RETURN_IF_ERROR(co_await parts_->bitmaps.Load());
  co_return parts_->bitmaps.List();
}

Task<absl::StatusOr<DirtyBitmap>> Image::ReadBitmap(std::string name) {
  CO_RETURN_IF_ERROR(co_await parts_->bitmaps.Load());
  CO_ASSIGN_OR_RETURN(const DirtyBitmap* const bitmap, parts_->bitmaps.Find(name));
  co_return *bitmap;
}

Task<absl::Status> Image::AddBitmap(std::string name, uint64_t granularity, bool enabled) {
  co_return co_await parts_->RunAlone(parts_->bitmaps.Add(std::move(name), granularity, enabled));
}

Task<absl::Status> Image::RemoveBitmap(std::string name) {
  co_return co_await parts_->RunAlone(parts_->bitmaps.Remove(std::move(name)));
}

Task<absl::Status> Image::ClearBitmap(std::string name) {
  co_return co_await parts_->RunAlone(parts_->bitmaps.Clear(std::move(name)));
}

Task<absl::Status> Image::SetBitmapEnabled(std::string name, bool enabled) {
  co_return co_await parts_->RunAlone(parts_->bitmaps.SetEnabled(std::move(name), enabled));
}

Task<absl::Status> Image::MergeBitmap(std::string name, const DirtyBitmap& from) {
  co_return co_await parts_->RunAlone(parts_->bitmaps.Merge(std::move(name), from));
}

Task<absl::Status> Image::Empty() { co_return co_await parts_->RunAlone(parts_->Empty()); }

Task<absl::Status> Image::Read(GuestOffset offset, std::span<std::byte> into) {
  Requests::Entry request(parts_->requests);
  co_await request;
  CO_RETURN_IF_ERROR(parts_->CheckRange(offset, into.size()));
  if (into.empty()) co_return absl::OkStatus();
  parts_->cleaner.BeginRequest();
  if (parts_->copies_on_read && failure().ok()) {
    absl::Status copied = co_await parts_->copier.Copy(offset, into.size());
    if (!copied.ok()) {
      co_return co_await parts_->Failed(Parts::Request::kChange, std::move(copied));
    }
  }
  absl::Status status = co_await parts_->reader.Read(offset, into);
  if (!status.ok()) status = co_await parts_->Failed(Parts::Request::kRead, std::move(status));
  co_return status;
}

Task<absl::Status> Image::Parts::Write(GuestOffset offset, std::span<const std::byte> from) {
  Requests::Entry request(requests);
  co_await request;
  CO_RETURN_IF_ERROR(CheckChange(offset, from.size()));
  if (from.empty()) co_return absl::OkStatus();
  cleaner.BeginRequest();
  bitmaps.SetDirty(offset, from.size());
  co_return co_await writer.Write(offset, from);
}

Task<absl::Status> Image::Write(GuestOffset offset, std::span<const std::byte> from) {
  if (parts_->CanReuseMuch()) CO_RETURN_IF_ERROR(co_await parts_->Flush());
  absl::Status status = co_await parts_->Write(offset, from);
  if (ErrnoOf(status) == ENOSPC && !parts_->frees.empty()) {
    // There are clusters that only wait for a flush.
    CO_RETURN_IF_ERROR(co_await parts_->Flush());
    status = co_await parts_->Write(offset, from);
  }
  if (!status.ok()) {
    co_return co_await parts_->Failed(Parts::Request::kChange, std::move(status));
  }
  if (parts_->EndsWithFlush()) co_return co_await parts_->FlushAndReserve();
  co_return absl::OkStatus();
}

Task<absl::Status> Image::ReadVmState(uint64_t position, std::span<std::byte> into) {
  Requests::Entry request(parts_->requests);
  co_await request;
  CO_RETURN_IF_ERROR(parts_->vm_state.CheckSupported());
  if (into.empty()) co_return absl::OkStatus();
  absl::Status status = co_await parts_->vm_state.Read(position, into);
  if (!status.ok()) status = co_await parts_->Failed(Parts::Request::kRead, std::move(status));
  co_return status;
}

Task<absl::Status> Image::Parts::WriteVmState(uint64_t position, std::span<const std::byte> from,
                                              bool& has_room) {
  Requests::Entry request(requests);
  co_await request;
  CO_RETURN_IF_ERROR(CheckChange(GuestOffset(0), 0));
  CO_RETURN_IF_ERROR(vm_state.CheckWritable(position, from.size()));
  has_room = from.empty() || vm_state.HasRoom(position, from.size());
  if (from.empty() || !has_room) co_return absl::OkStatus();
  absl::Status status = co_await vm_state.Write(position, from);
  if (!status.ok()) status = co_await Failed(Request::kChange, std::move(status));
  co_return status;
}

Task<absl::Status> Image::WriteVmState(uint64_t position, std::span<const std::byte> from) {
  bool has_room = false;
  for (;;) {
    CO_RETURN_IF_ERROR(co_await parts_->WriteVmState(position, from, has_room));
    if (has_room) co_return co_await parts_->EndChange();
    // Until it is this write's turn again, a snapshot with a smaller table may become the disk.
    CO_RETURN_IF_ERROR(co_await parts_->RunAlone(parts_->vm_state.MakeRoom(position, from.size())));
  }
}

Task<absl::Status> Image::Parts::WriteCompressed(GuestOffset offset,
                                                 std::span<const std::byte> from, uint64_t& done) {
  Requests::Entry request(requests);
  co_await request;
  CO_RETURN_IF_ERROR(CheckChange(offset, from.size()));
  if (from.empty()) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(CheckCompressible(offset, from.size()));
  bitmaps.SetDirty(offset, from.size());
  co_return co_await compressor.Write(offset, from, done);
}

absl::Status Image::Parts::CheckCompressible(GuestOffset offset, uint64_t length) const {
  const Geometry& geometry = metadata.geometry;
  if (metadata.header.external_data()) {
    return ErrnoStatus(ENOTSUP,
                       absl::StrFormat("'%s': no compressed clusters in a data file", disk.name()));
  }
  const GuestOffset end = offset + length;
  const bool ends_well =
      geometry.OffsetInCluster(end) == 0 || end.value() == geometry.virtual_size();
  if (geometry.OffsetInCluster(offset) == 0 && ends_well) return absl::OkStatus();
  return ErrnoStatus(EINVAL,
                     absl::StrFormat("'%s': %d bytes at guest offset %#x are not whole clusters",
                                     disk.name(), length, offset.value()));
}

Task<absl::Status> Image::WriteCompressed(GuestOffset offset, std::span<const std::byte> from) {
  uint64_t done = 0;
  absl::Status status = co_await parts_->WriteCompressed(offset, from, done);
  if (ErrnoOf(status) == ENOSPC && !parts_->frees.empty()) {
    // As for Write; what is there already is not written again.
    CO_RETURN_IF_ERROR(co_await parts_->Flush());
    const uint64_t before = std::exchange(done, 0);
    status = co_await parts_->WriteCompressed(offset + before, from.subspan(before), done);
  }
  if (status.ok()) co_return co_await parts_->EndChange();
  co_return co_await parts_->Failed(Parts::Request::kChange, std::move(status));
}

Task<absl::Status> Image::WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) {
  {
    Requests::Entry request(parts_->requests);
    co_await request;
    CO_RETURN_IF_ERROR(parts_->CheckChange(offset, length));
    if (length == 0) co_return absl::OkStatus();
    parts_->bitmaps.SetDirty(offset, length);
    absl::Status status = co_await parts_->zeroer.WriteZeroes(offset, length, manner);
    if (!status.ok()) {
      co_return co_await parts_->Failed(Parts::Request::kChange, std::move(status));
    }
  }
  co_return co_await parts_->EndChange();
}

Task<absl::Status> Image::Discard(GuestOffset offset, uint64_t length) {
  {
    Requests::Entry request(parts_->requests);
    co_await request;
    CO_RETURN_IF_ERROR(parts_->CheckChange(offset, length));
    if (length == 0) co_return absl::OkStatus();
    parts_->bitmaps.SetDirty(offset, length);
    absl::Status status = co_await parts_->zeroer.Discard(offset, length);
    if (!status.ok()) {
      co_return co_await parts_->Failed(Parts::Request::kChange, std::move(status));
    }
  }
  co_return co_await parts_->EndChange();
}

Task<absl::StatusOr<GuestExtent>> Image::Find(GuestOffset offset, uint64_t length) {
  Requests::Entry request(parts_->requests);
  co_await request;
  CO_RETURN_IF_ERROR(parts_->CheckRange(offset, length));
  if (!parts_->read_only) co_return co_await parts_->reader.Find(offset, length);
  CO_ASSIGN_OR_RETURN(const GuestExtent extent, co_await parts_->reader.Find(offset, length));
  co_return co_await parts_->holes.LookInto(extent);
}

Task<absl::StatusOr<bool>> Image::AreKnownZero(GuestOffset offset, uint64_t length) {
  Requests::Entry request(parts_->requests);
  co_await request;
  CO_RETURN_IF_ERROR(parts_->CheckRange(offset, length));
  co_return co_await parts_->reader.AreKnownZero(offset, length);
}

std::optional<StoredBytes> Image::TryLocate(GuestOffset offset, uint64_t length) {
  // What is written to may move.
  if (!parts_->read_only || !parts_->CheckRange(offset, length).ok()) return std::nullopt;
  return parts_->reader.TryLocate(offset, length);
}

Task<absl::Status> Image::Flush() {
  if (parts_->read_only) co_return absl::OkStatus();
  absl::Status status = co_await parts_->FlushAndReserve();
  if (!status.ok()) status = co_await parts_->Failed(Parts::Request::kChange, std::move(status));
  co_return status;
}

Task<absl::Status> Image::Close() {
  if (parts_->read_only) co_return absl::OkStatus();
  // At worst this leaks clusters: what the guest wrote is flushed all the same.
  const absl::Status given_back = co_await parts_->allocator.GiveBackReserve();
  CO_RETURN_IF_ERROR(co_await parts_->Flush());
  // The first flush made the removals durable whose refcounts the second one writes.
  CO_RETURN_IF_ERROR(co_await parts_->Flush());
  CO_RETURN_IF_ERROR(co_await parts_->bitmaps.Store());
  CO_RETURN_IF_ERROR(co_await parts_->TrimFiles());
  co_return given_back;
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
    end = std::min(end, std::max(geometry.OffsetOf(used_end), tables_end).value());
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
