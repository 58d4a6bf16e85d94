#include "qcow2/image_chain.h"

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"
#include "qcow2/backing_name.h"
#include "qcow2/compressing_guest.h"
#include "qcow2/copy_on_read_guest.h"
#include "qcow2/debugged_guest.h"
#include "qcow2/format/header.h"
#include "qcow2/format/unsupported.h"
#include "qcow2/image_source.h"
#include "qcow2/raw_image.h"
#include "qcow2/read_header.h"
#include "qcow2/reworded.h"

namespace ringcow {
namespace {

using CacheBytes = ImageChain::CacheBytes;
using Layer = ImageChain::Layer;

// The other files that an image needs.
struct Links {
  std::optional<ImageSource> backing = std::nullopt;
  std::optional<ImageSource> data_file = std::nullopt;
  bool has_external_data = false;
  ImageChain::CacheBytes caches = {};
};

// `status` of the layer with this many above it.
absl::Status AtDepth(size_t depth, const absl::Status& status) {
  std::string message;
  for (size_t i = 0; i < depth; ++i) absl::StrAppend(&message, "Could not open backing file: ");
  absl::StrAppend(&message, std::string(status.message()));
  return Reworded(status, message);
}

// A description that tells how, and not what, is of the file with this name, if there is one.
ImageDescription WithFile(const ImageDescription& description, const std::string& name) {
  std::map<std::string, std::string> options = description.options();
  const bool has_file = std::any_of(options.begin(), options.end(), [](const auto& option) {
    return absl::StartsWith(option.first, "file") || option.first == "filename";
  });
  if (!has_file && !name.empty()) options["file.filename"] = name;
  return ImageDescription(std::move(options));
}

// The backing file, if there is one: that of the description, or else of the header.
absl::StatusOr<std::optional<ImageSource>> BackingOf(const ImageFile& file, const Header& header) {
  const FormatOptions& options = file.format_options();
  if (!options.replaces_backing && header.backing_file.empty()) return std::nullopt;
  if (options.replaces_backing && !options.backing.has_value()) return std::nullopt;
  const std::string named = FullBackingPath(file.host().path(), header.backing_file);
  absl::StatusOr<ImageSource> source =
      options.backing.has_value()
          ? SourceOf(WithFile(*options.backing, header.backing_file.empty() ? "" : named), "")
          : SourceOf(named, header.extensions.backing_format.value_or(""));
  if (!source.ok()) return AtDepth(1, source.status());
  return *std::move(source);
}

// The data file, if there is one: that of the description, or else of the header.
absl::StatusOr<std::optional<ImageSource>> DataFileOf(const ImageFile& file, const Header& header) {
  const std::optional<ImageSource>& described = file.format_options().data_file;
  // It is refused when it has been opened, where the image cannot have one (see OpenDataFile).
  if (described.has_value() || !header.external_data()) return described;
  const std::optional<std::string>& name = header.extensions.external_data_file;
  if (!name.has_value()) {
    return absl::InvalidArgumentError("'data-file' is required for this image");
  }
  ImageSource source;
  ASSIGN_OR_RETURN(source.path, LocalPath(*name));
  return source;
}

// What "cache-size" leaves to the one is what the other does not take; else the L2 tables get all
// that they need, if there is room for some refcount blocks beside them. As in QEMU.
CacheBytes CacheBytesOf(const FormatOptions& options, const Geometry& geometry) {
  constexpr uint64_t kLeastRefcountBlocks = 4;
  const uint64_t both = options.cache_bytes;
  const uint64_t l2_tables =
      AlignUp(geometry.guest_clusters() * geometry.l2_entry_bytes(), geometry.cluster_bytes());
  if (both == 0) return {std::min(options.l2_cache_bytes, l2_tables), options.refcount_cache_bytes};
  uint64_t refcounts = options.refcount_cache_bytes;
  if (options.l2_cache_bytes != 0) {
    refcounts = both - options.l2_cache_bytes;
  } else if (refcounts == 0) {
    const uint64_t least = kLeastRefcountBlocks * geometry.cluster_bytes();
    refcounts = both >= l2_tables + least ? both - l2_tables : std::min(both, least);
  }
  // 0 would mean that nothing was said.
  return {std::max<uint64_t>(both - refcounts, 1), std::max<uint64_t>(refcounts, 1)};
}

absl::Status CheckEntryBytes(uint64_t bytes, const Geometry& geometry) {
  if (bytes == 0) return absl::OkStatus();
  constexpr uint64_t kLeast = 512;
  if (std::has_single_bit(bytes) && bytes >= kLeast && bytes <= geometry.cluster_bytes()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "L2 cache entry size must be a power of two between %d and the cluster size (%d)", kLeast,
      geometry.cluster_bytes()));
}

absl::Status CheckCacheBytes(CacheBytes caches, uint64_t entry_bytes, const Geometry& geometry) {
  constexpr uint64_t kMostEntries = std::numeric_limits<int32_t>::max();
  constexpr uint64_t kDefaultEntryBytes = 4096;
  if (entry_bytes == 0) entry_bytes = std::min(kDefaultEntryBytes, geometry.cluster_bytes());
  if (caches.l2 / entry_bytes > kMostEntries) {
    return absl::InvalidArgumentError("L2 cache size too big");
  }
  if (caches.refcounts / geometry.cluster_bytes() > kMostEntries) {
    return absl::InvalidArgumentError("Refcount cache size too big");
  }
  return absl::OkStatus();
}

Task<absl::StatusOr<Links>> ReadLinks(const ImageFile& file) {
  Links links;
  if (file.format() != ImageFormat::kQcow2) co_return links;
  CO_ASSIGN_OR_RETURN(const Header header, co_await ReadHeader(file.disk()));
  // Before other files are looked for: what the image itself lacks is said first.
  CO_RETURN_IF_ERROR(CheckSupported(header));
  CO_ASSIGN_OR_RETURN(const Geometry geometry, GeometryOf(header));
  CO_RETURN_IF_ERROR(CheckEntryBytes(file.format_options().l2_entry_bytes, geometry));
  if (file.format_options().lazy_refcounts && header.version < 3) {
    co_return absl::InvalidArgumentError(
        "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level");
  }
  links.caches = CacheBytesOf(file.format_options(), geometry);
  CO_RETURN_IF_ERROR(CheckCacheBytes(links.caches, file.format_options().l2_entry_bytes, geometry));
  links.has_external_data = header.external_data();
  CO_ASSIGN_OR_RETURN(links.data_file, DataFileOf(file, header));
  CO_ASSIGN_OR_RETURN(links.backing, BackingOf(file, header));
  co_return links;
}

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

bool IsOpen(const std::vector<Layer>& layers, const ImageSource& source) {
  if (!source.is_in_file()) return false;
  return std::any_of(layers.begin(), layers.end(), [&source](const Layer& layer) {
    const UringDisk* const file = layer.file.host().file();
    return file != nullptr && file->IsNamed(source.path);
  });
}

absl::Status CheckBacking(const std::vector<Layer>& layers, const ImageSource& backing) {
  if (IsOpen(layers, backing)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Backing file '%s' creates an infinite loop.", backing.path));
  }
  if (layers.size() < ImageChain::kMaxLayers) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("The backing chain has more than %d files", ImageChain::kMaxLayers));
}

Task<absl::Status> OpenDataFile(Rings& rings, const ImageSource& source, bool is_wanted,
                                const ImageFileOptions& options, Layer& layer) {
  CO_ASSIGN_OR_RETURN(layer.data_file, co_await HostFile::Open(rings, source, options));
  if (is_wanted) co_return absl::OkStatus();
  co_return absl::InvalidArgumentError(
      "'data-file' can only be set for images with an external data file");
}

// The files alone, from the image down.
Task<absl::StatusOr<std::vector<Layer>>> OpenFiles(Rings& rings, ImageSource source,
                                                   const ImageChainOptions& chain) {
  ImageFileOptions options = chain.file;
  std::vector<Layer> layers;
  while (true) {
    const size_t depth = layers.size();
    absl::StatusOr<ImageFile> file = co_await ImageFile::Open(rings, std::move(source), options);
    if (!file.ok()) co_return AtDepth(depth, file.status());
    layers.push_back({.file = *std::move(file)});

    absl::StatusOr<Links> links = co_await ReadLinks(layers.back().file);
    if (!links.ok()) {
      co_return AtDepth(depth, WithoutName(links.status(), layers.back().file.disk()));
    }
    if (const std::optional<ImageSource>& data = links->data_file; data.has_value()) {
      const absl::Status status =
          co_await OpenDataFile(rings, *data, links->has_external_data, options, layers.back());
      if (!status.ok()) co_return AtDepth(depth, status);
    }
    layers.back().caches = links->caches;
    std::optional<ImageSource>& backing = links->backing;
    if (!backing.has_value() || chain.without_backing) co_return layers;
    if (const absl::Status status = CheckBacking(layers, *backing); !status.ok()) {
      co_return AtDepth(depth + 1, status);
    }
    source = *std::move(backing);
    options.read_only = layers.size() != chain.also_writable;
  }
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

// What OpenFiles found out about the layer at `depth`, and what the caller wants.
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
  CO_ASSIGN_OR_RETURN(std::vector<Layer> layers,
                      co_await OpenFiles(rings, std::move(source), options));
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
  for (Layer& layer : layers_) {
    if (layer.data_file.has_value()) status.Update(co_await layer.data_file->Close());
    status.Update(co_await layer.file.Close());
  }
  co_return status;
}

}  // namespace ringcow
