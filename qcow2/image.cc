#include "qcow2/image.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "qcow2/allocator.h"
#include "qcow2/growth.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"
#include "qcow2/open.h"
#include "qcow2/read_path.h"
#include "qcow2/write_path.h"

namespace ringcow {
namespace {

MetadataOptions MetadataOptionsOf(const OpenOptions& options) {
  return {options.write_back, options.l2_cache_bytes, options.refcount_cache_bytes,
          options.cache_slice_bytes};
}

}  // namespace

struct Image::Parts {
  Parts(Disk& disk, const CheckedHeader& read, const OpenOptions& options)
      : disk(disk),
        read_only(options.read_only),
        size_when_opened(disk.size()),
        metadata(disk, read.header, read.geometry, MetadataOptionsOf(options)),
        growth(disk, options.grow_ahead ? Growth::Manner::kAhead : Growth::Manner::kNeeded),
        allocator(metadata, growth),
        mapper(metadata, allocator),
        reader(metadata, mapper),
        writer(metadata, mapper, allocator) {}

  absl::Status CheckRange(GuestOffset offset, uint64_t length) const;

  Disk& disk;
  const bool read_only;
  const uint64_t size_when_opened;
  Metadata metadata;
  Growth growth;
  Allocator allocator;
  Mapper mapper;
  ReadPath reader;
  WritePath writer;
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
  CO_ASSIGN_OR_RETURN(const CheckedHeader read,
                      co_await ReadAndCheckHeader(disk, options.read_only));
  // What a killed process wrote may be read back and still be lost in a power cut. Everything is
  // ordered behind what is read from here on, so that has to be durable.
  if (!options.read_only) CO_RETURN_IF_ERROR(co_await disk.Fdatasync());
  auto parts = std::make_unique<Parts>(disk, read, options);
  CO_RETURN_IF_ERROR(co_await parts->metadata.Load());
  if (!options.read_only) CO_RETURN_IF_ERROR(co_await ClearAutoclearFeatures(parts->metadata));
  co_return std::unique_ptr<Image>(new Image(std::move(parts)));
}

uint64_t Image::size() const { return parts_->metadata.geometry.virtual_size(); }
const Header& Image::header() const { return parts_->metadata.header; }
const Geometry& Image::geometry() const { return parts_->metadata.geometry; }
const absl::Status& Image::failure() const { return parts_->metadata.write_back.failure(); }
const DiskCounters& Image::counters() const { return parts_->disk.counters(); }
void Image::ResetCounters() { parts_->disk.ResetCounters(); }

Task<absl::Status> Image::Read(GuestOffset offset, std::span<std::byte> into) {
  CO_RETURN_IF_ERROR(parts_->CheckRange(offset, into.size()));
  if (into.empty()) co_return absl::OkStatus();
  co_return co_await parts_->reader.Read(offset, into);
}

Task<absl::Status> Image::Write(GuestOffset offset, std::span<const std::byte> from) {
  CO_RETURN_IF_ERROR(parts_->CheckRange(offset, from.size()));
  if (parts_->read_only) {
    co_return absl::PermissionDeniedError(
        absl::StrFormat("'%s' is open read-only", parts_->disk.name()));
  }
  CO_RETURN_IF_ERROR(failure());
  if (from.empty()) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(co_await parts_->writer.Write(offset, from));
  co_return co_await parts_->metadata.write_back.EndUpdate();
}

Task<absl::Status> Image::Flush() {
  if (parts_->read_only) co_return absl::OkStatus();
  co_return co_await parts_->metadata.write_back.Flush();
}

Task<absl::Status> Image::Close() {
  if (parts_->read_only) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(co_await Flush());
  // A cluster in which the file ended when it was opened may have been written to since.
  const uint64_t needed =
      std::max(AlignUp(parts_->size_when_opened, parts_->metadata.geometry.cluster_bytes()),
               parts_->allocator.taken_end().value());
  // What was grown ahead and not used is given back. Should a crash undo this, the file is only
  // longer than it has to be.
  if (parts_->disk.size() > needed) co_return co_await parts_->disk.Truncate(needed);
  co_return absl::OkStatus();
}

}  // namespace ringcow
