#include "qcow2/image_chain.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"
#include "qcow2/compressing_guest.h"
#include "qcow2/copy_on_read_guest.h"
#include "qcow2/debugged_guest.h"
#include "qcow2/host_file.h"
#include "qcow2/image_source.h"
#include "qcow2/raw_image.h"
#include "qcow2/reworded.h"

namespace ringcow {
namespace {

using Layer = ImageChain::Layer;

// What the file takes on the host, where it is a file of the host.
absl::StatusOr<std::optional<uint64_t>> SpaceTaken(const HostFile& host) {
  if (host.file() == nullptr) return std::nullopt;
  struct stat status{};
  if (fstat(host.file()->fd(), &status) != 0) {
    return ErrnoStatus(errno, absl::StrFormat("Could not stat '%s'", host.file()->name()));
  }
  constexpr uint64_t kBlockBytes = 512;  // of st_blocks, whatever the file system
  return static_cast<uint64_t>(status.st_blocks) * kBlockBytes;
}

absl::Status CannotCompress(absl::string_view driver) {
  return absl::InvalidArgumentError(
      absl::StrFormat("Compression is not supported for underlying format: %s", driver));
}

absl::Status PutBlkdebug(Layer& layer, const BlkdebugOptions& options) {
  Disk& disk = layer.file.disk();
  ASSIGN_OR_RETURN(std::unique_ptr<DebuggedGuest> debugged,
                   DebuggedGuest::Open(disk.loop(), std::move(layer.guest), disk.name(), options));
  layer.blkdebug = &debugged->blkdebug();
  layer.guest = std::move(debugged);
  return absl::OkStatus();
}

// Lays on the image what its source says, but for the first `done` drivers.
absl::Status PutAbove(Layer& layer, size_t done, bool read_only) {
  Loop& loop = layer.file.disk().loop();
  const std::vector<GuestDriver>& drivers = layer.file.host().source().above;
  BlkdebugDisk* right_below = nullptr;
  for (size_t i = done; i < drivers.size(); ++i) {
    if (const auto* const blkdebug = std::get_if<BlkdebugOptions>(&drivers[i])) {
      RETURN_IF_ERROR(PutBlkdebug(layer, *blkdebug));
      right_below = layer.blkdebug;
      continue;
    }
    const bool is_raw = layer.image == nullptr;
    if (std::holds_alternative<CopyOnReadDriver>(drivers[i])) {
      const uint64_t unit = is_raw ? kSectorBytes : layer.image->geometry().subcluster_bytes();
      layer.guest =
          std::make_unique<CopyOnReadGuest>(loop, std::move(layer.guest), unit, right_below);
    } else {
      if (is_raw) return CannotCompress(FormatName(layer.file.format()));
      if (right_below != nullptr) return CannotCompress("blkdebug");
      const uint64_t cluster_bytes = layer.image->geometry().cluster_bytes();
      if (!read_only && layer.guest->size() % cluster_bytes != 0) {
        return absl::InvalidArgumentError(
            "Cannot get 'write' permission without 'resize': Image size is not a multiple of "
            "request alignment");
      }
      layer.guest = std::make_unique<CompressingGuest>(loop, std::move(layer.guest), cluster_bytes);
    }
    right_below = nullptr;
  }
  return absl::OkStatus();
}

Task<absl::Status> OpenImage(Layer& layer, OpenOptions options) {
  if (layer.file.format() == ImageFormat::kRaw) {
    layer.guest = std::make_unique<RawImage>(layer.file.disk(), options.read_only,
                                             layer.file.format_options().raw_window);
    co_return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<Image>> image = co_await Image::Open(layer.file.disk(), options);
  if (!image.ok()) co_return WithoutName(image.status(), layer.file.disk());
  layer.image = image->get();
  layer.guest = *std::move(image);
  co_return absl::OkStatus();
}

Task<absl::Status> OpenGuest(Layer& layer, OpenOptions options) {
  const ImageSource& source = layer.file.host().source();
  if (options.read_only && source.copies_on_read()) {
    co_return absl::PermissionDeniedError("Block node is read-only");
  }
  // Right above an image it is the image that does it.
  options.copy_on_read = layer.file.format() == ImageFormat::kQcow2 && !source.above.empty() &&
                         std::holds_alternative<CopyOnReadDriver>(source.above.front());
  CO_RETURN_IF_ERROR(co_await OpenImage(layer, options));
  co_return PutAbove(layer, options.copy_on_read ? 1 : 0, options.read_only);
}

// What OpenChainFiles found out about the layer at `depth`, and what the caller wants.
absl::StatusOr<OpenOptions> OptionsOf(const std::vector<Layer>& layers, size_t depth,
                                      const ImageChainOptions& chain) {
  const Layer& layer = layers[depth];
  const FormatOptions& described = layer.file.format_options();
  OpenOptions options = depth == 0 ? chain.image : OpenOptions();
  if (layer.caches.l2 > 0) options.l2_cache_bytes = layer.caches.l2;
  if (layer.caches.refcounts > 0) options.refcount_cache_bytes = layer.caches.refcounts;
  if (described.l2_entry_bytes > 0) {
    options.cache_slice_bytes = static_cast<uint32_t>(described.l2_entry_bytes);
  }
  options.overlap_check = described.overlap_check.value_or(options.overlap_check);
  options.pass_discard = described.pass_discard;
  if (described.cache_clean_interval.count() > 0) {
    options.cache_clean_interval = described.cache_clean_interval;
  }
  options.corruption = chain.image.corruption;
  options.replaces_backing = described.replaces_backing || chain.without_backing;
  options.read_only = depth == 0 ? chain.file.read_only : depth != chain.also_writable;
  options.backing = depth + 1 < layers.size() ? layers[depth + 1].guest.get() : nullptr;
  options.data_file = layer.data_file.has_value() ? &layer.data_file->disk() : nullptr;
  options.events = layer.file.host().events();
  ASSIGN_OR_RETURN(options.stored_bytes, SpaceTaken(layer.file.host()));
  return options;
}

}  // namespace

Task<absl::StatusOr<std::unique_ptr<ImageChain>>> ImageChain::Open(Rings& rings, std::string name,
                                                                   ImageChainOptions options) {
  CO_ASSIGN_OR_RETURN(ImageSource source, SourceOf(name, options.file.format));
  co_return co_await Open(rings, std::move(source), std::move(options));
}

Task<absl::StatusOr<std::unique_ptr<ImageChain>>> ImageChain::Open(Rings& rings, ImageSource source,
                                                                   ImageChainOptions options) {
  const bool ignores_discards = source.ignores_discards;
  const DetectZeroes detect_zeroes = source.detect_zeroes;
  if (options.image.copy_on_read) source.above.emplace_back(CopyOnReadDriver());
  CO_ASSIGN_OR_RETURN(
      std::vector<ChainFiles> files,
      co_await OpenChainFiles(rings, std::move(source),
                              {options.file, options.also_writable, options.without_backing}));
  std::vector<Layer> layers;
  layers.reserve(files.size());
  for (ChainFiles& of_layer : files) layers.push_back({std::move(of_layer)});
  // From the last backing file up, since each needs the one below it.
  for (size_t depth = layers.size(); depth-- > 0;) {
    CO_ASSIGN_OR_RETURN(OpenOptions layer_options, OptionsOf(layers, depth, options));
    const absl::Status status = co_await OpenGuest(layers[depth], std::move(layer_options));
    if (!status.ok()) co_return AtDepth(depth, status);
  }
  co_return absl::WrapUnique(new ImageChain(std::move(layers), ignores_discards, detect_zeroes));
}

// Overlays go before what they read from.
ImageChain::~ImageChain() {
  for (Layer& layer : layers_) layer.guest.reset();
}

Task<absl::Status> ImageChain::Write(GuestOffset offset, std::span<const std::byte> from) {
  if (detect_zeroes_ == DetectZeroes::kOff || from.empty() || !AreZeroes(from)) {
    return top().Write(offset, from);
  }
  return WriteZeroes(
      offset, from.size(),
      detect_zeroes_ == DetectZeroes::kUnmap ? ZeroManner::kMayUnmap : ZeroManner::kKeepSpace);
}

Task<absl::Status> ImageChain::WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) {
  return top().WriteZeroes(offset, length, ignores_discards_ ? ZeroManner::kKeepSpace : manner);
}

Task<absl::Status> ImageChain::Discard(GuestOffset offset, uint64_t length) {
  // What is outside of the disk is refused all the same.
  if (!ignores_discards_ || !Has(offset, length)) co_return co_await top().Discard(offset, length);
  co_return absl::OkStatus();
}

Task<absl::Status> ImageChain::Close() {
  absl::Status status = co_await CloseImages();
  status.Update(co_await CloseFiles());
  co_return status;
}

Task<absl::Status> ImageChain::CloseImages() {
  absl::Status status;
  for (const Layer& layer : layers_) status.Update(co_await layer.guest->Close());
  co_return status;
}

Task<absl::Status> ImageChain::CloseFiles() {
  absl::Status status;
  for (Layer& layer : layers_) status.Update(co_await CloseChainFiles(layer));
  co_return status;
}

}  // namespace ringcow
