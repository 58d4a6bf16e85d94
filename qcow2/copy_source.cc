#include "qcow2/copy_source.h"

#include <algorithm>

#include "engine/status_macros.h"
#include "qcow2/chain_extent.h"

namespace ringcow {

uint64_t CopySource::size() const {
  if (!layers_.empty()) return layers_.front()->size();
  uint64_t bytes = 0;
  for (const ImageChain* image : images_) bytes += image->size();
  return bytes;
}

CopySource::Place CopySource::PlaceOf(uint64_t offset) const {
  auto image = images_.begin();
  for (; offset >= (*image)->size(); ++image) offset -= (*image)->size();
  return {*image, offset};
}

Task<absl::StatusOr<CopyPiece>> CopySource::Find(uint64_t offset, uint64_t length) const {
  if (!layers_.empty()) co_return co_await FindInLayers(offset, length);
  const Place place = PlaceOf(offset);
  length = std::min(length, place.image->size() - place.offset);
  CO_ASSIGN_OR_RETURN(const ChainExtent found,
                      co_await FindInChain(*place.image, GuestOffset(place.offset), length));
  const GuestExtent& extent = found.extent;
  co_return CopyPiece{extent.zero ? CopyPiece::Kind::kZero : CopyPiece::Kind::kData, extent.bytes};
}

Task<absl::StatusOr<CopyPiece>> CopySource::FindInLayers(uint64_t offset, uint64_t length) const {
  const bool is_behind = offset >= backing_bytes_;
  if (!is_behind) length = std::min(length, backing_bytes_ - offset);
  const CopyPiece::Kind zero = is_behind ? CopyPiece::Kind::kBacking : CopyPiece::Kind::kZero;
  for (GuestDisk* layer : layers_) {
    // One that is shorter hides what is below it.
    if (offset >= layer->size()) co_return CopyPiece{zero, length};
    length = std::min(length, layer->size() - offset);
    CO_ASSIGN_OR_RETURN(const GuestExtent extent,
                        co_await layer->Find(GuestOffset(offset), length));
    length = extent.bytes;
    if (extent.zero) co_return CopyPiece{zero, length};
    if (extent.allocated) co_return CopyPiece{CopyPiece::Kind::kData, length};
  }
  co_return CopyPiece{CopyPiece::Kind::kBacking, length};
}

Task<absl::Status> CopySource::Read(uint64_t offset, std::span<std::byte> into) const {
  if (!layers_.empty()) co_return co_await layers_.front()->Read(GuestOffset(offset), into);
  while (!into.empty()) {
    const Place place = PlaceOf(offset);
    const size_t bytes = std::min<uint64_t>(into.size(), place.image->size() - place.offset);
    GuestDisk& disk = *place.image->layers().front().guest;
    CO_RETURN_IF_ERROR(co_await disk.Read(GuestOffset(place.offset), into.first(bytes)));
    offset += bytes;
    into = into.subspan(bytes);
  }
  co_return absl::OkStatus();
}

std::optional<FileBytes> CopySource::TryLocate(uint64_t offset, uint64_t length) const {
  if (!layers_.empty()) return std::nullopt;
  const Place place = PlaceOf(offset);
  const std::vector<ImageChain::Layer>& layers = place.image->layers();
  const std::optional<StoredBytes> stored =
      layers.front().guest->TryLocate(GuestOffset(place.offset), length);
  if (!stored.has_value()) return std::nullopt;
  for (const ImageChain::Layer& layer : layers) {
    // What lies on a file has to see its requests.
    const UringDisk* const file = layer.file.host().file();
    if (stored->disk == file) return FileBytes{file->fd(), stored->offset.value()};
    if (!layer.data_file.has_value()) continue;
    const UringDisk* const data_file = layer.data_file->file();
    if (stored->disk == data_file) return FileBytes{data_file->fd(), stored->offset.value()};
  }
  return std::nullopt;
}

}  // namespace ringcow
