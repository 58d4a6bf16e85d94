// What an image does to itself as a whole, with no guest request under way: snapshots, bitmaps, its
// size.

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/failure_reason.h"
#include "qcow2/image.h"
#include "qcow2/image_parts.h"
#include "qcow2/snapshot_zeroes.h"

namespace ringcow {

Task<absl::Status> Image::Parts::Empty() {
  const uint64_t size = metadata.geometry.virtual_size();
  if (size == 0) co_return absl::OkStatus();
  if (metadata.has_raw_data_file()) {
    co_return ErrnoStatus(
        ENOTSUP, absl::StrFormat("'%s': nothing shows through a raw data file", disk.name()));
  }
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

Task<absl::Status> Image::ExpandSnapshotZeroes(std::function<void(uint64_t)> on_progress) {
  SnapshotZeroes zeroes(parts_->metadata, parts_->allocator, parts_->snapshots,
                        parts_->backing != nullptr);
  co_return co_await parts_->RunOnSnapshots(zeroes.Expand(std::move(on_progress)));
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

Task<absl::Status> Image::Parts::CheckShrinkable() {
  absl::Status status = co_await allocator.CheckBlocks();
  if (!status.ok()) status = co_await Failed(Request::kChange, std::move(status));
  co_return FailureOf("Failed to discard unused refblocks", status);
}

Task<absl::Status> Image::Parts::ResizeTo(uint64_t virtual_size, Preallocation preallocation) {
  CO_ASSIGN_OR_RETURN(const Geometry resized, metadata.geometry.Resized(virtual_size));
  CO_RETURN_IF_ERROR(co_await bitmaps.PrepareResize(resized));
  const uint64_t backing_bytes = backing != nullptr ? backing->size() : 0;
  const bool shrinks = virtual_size < metadata.geometry.virtual_size();
  if (shrinks) CO_RETURN_IF_ERROR(co_await CheckShrinkable());
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

}  // namespace ringcow
