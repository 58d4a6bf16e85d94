#include "qcow2/image.h"

#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/invariant.h"
#include "engine/status_macros.h"
#include "qcow2/image_parts.h"
#include "qcow2/open.h"
#include "qcow2/reclaim.h"

namespace ringcow {

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
  // With a backing file that only who opens it knows, the raw file would not read as the guest
  // does.
  if (read.header.raw_external_data()) options.backing = nullptr;
  // What a killed process wrote may be read back and still be lost in a power cut. Everything is
  // ordered behind what is read from here on, so that has to be durable. (A data file becomes so
  // with the first table that is written, or the first flush.)
  if (!options.read_only) CO_RETURN_IF_ERROR(co_await disk.Fdatasync());
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

Task<absl::Status> Image::Write(GuestOffset offset, std::span<const std::byte> from) {
  if (parts_->CanReuseMuch()) CO_RETURN_IF_ERROR(co_await parts_->Flush());
  absl::Status status;
  for (bool has_flushed = false;; has_flushed = true) {
    {
      Requests::Entry request(parts_->requests);
      co_await request;
      status = parts_->CheckChange(offset, from.size());
      if (from.empty()) co_return status;
      if (status.ok()) {
        parts_->cleaner.BeginRequest();
        parts_->bitmaps.SetDirty(offset, from.size());
        status = co_await parts_->writer.Write(offset, from);
      }
    }
    if (status.ok() || has_flushed || ErrnoOf(status) != ENOSPC || parts_->frees.empty()) break;
    // There are clusters that only wait for a flush.
    CO_RETURN_IF_ERROR(co_await parts_->Flush());
  }
  if (!status.ok()) {
    co_return co_await parts_->Failed(Parts::Request::kChange, std::move(status));
  }
  if (parts_->EndsWithFlush()) co_return co_await parts_->FlushForGuest();
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
  const absl::StatusOr<GuestExtent> found = co_await parts_->reader.Find(offset, length);
  if (!found.ok()) co_return co_await parts_->Failed(Parts::Request::kRead, found.status());
  if (!parts_->read_only) co_return found;
  co_return co_await parts_->holes.LookInto(*found);
}

Task<absl::StatusOr<bool>> Image::AreKnownZero(GuestOffset offset, uint64_t length) {
  Requests::Entry request(parts_->requests);
  co_await request;
  CO_RETURN_IF_ERROR(parts_->CheckRange(offset, length));
  absl::StatusOr<bool> are_zero = co_await parts_->reader.AreKnownZero(offset, length);
  if (!are_zero.ok()) co_return co_await parts_->Failed(Parts::Request::kRead, are_zero.status());
  co_return are_zero;
}

std::optional<StoredBytes> Image::TryLocate(GuestOffset offset, uint64_t length) {
  // What is written to may move.
  if (!parts_->read_only || !parts_->CheckRange(offset, length).ok()) return std::nullopt;
  return parts_->reader.TryLocate(offset, length);
}

Task<absl::Status> Image::Flush() { return parts_->FlushForGuest(); }

Task<absl::Status> Image::Close() {
  if (parts_->read_only) co_return absl::OkStatus();
  absl::Status status = co_await parts_->Close();
  if (!status.ok()) status = co_await parts_->Failed(Parts::Request::kChange, std::move(status));
  co_return status;
}

}  // namespace ringcow
