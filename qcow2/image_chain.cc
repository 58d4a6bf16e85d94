#include "qcow2/image_chain.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "qcow2/backing_name.h"
#include "qcow2/format/header.h"
#include "qcow2/format/unsupported.h"
#include "qcow2/image_source.h"
#include "qcow2/raw_image.h"
#include "qcow2/read_header.h"

namespace ringcow {
namespace {

using Layer = ImageChain::Layer;

// The other files that an image needs.
struct Links {
  std::optional<ImageSource> backing = std::nullopt;
  std::optional<std::string> data_file = std::nullopt;
};

// `status` of the layer with this many above it.
absl::Status AtDepth(size_t depth, const absl::Status& status) {
  std::string message;
  for (size_t i = 0; i < depth; ++i) absl::StrAppend(&message, "Could not open backing file: ");
  absl::StrAppend(&message, std::string(status.message()));
  absl::Status wrapped(status.code(), message);
  status.ForEachPayload([&wrapped](absl::string_view url, const absl::Cord& payload) {
    wrapped.SetPayload(url, payload);
  });
  return wrapped;
}

// The backing file, if there is one: that of the description, or else of the header.
absl::StatusOr<std::optional<ImageSource>> BackingOf(const ImageFile& file, const Header& header) {
  const FormatOptions& options = file.format_options();
  if (!options.replaces_backing && header.backing_file.empty()) return std::nullopt;
  if (options.replaces_backing && !options.backing.has_value()) return std::nullopt;
  absl::StatusOr<ImageSource> source =
      options.backing.has_value()
          ? SourceOf(*options.backing, "")
          : SourceOf(FullBackingPath(file.disk().name(), header.backing_file),
                     header.extensions.backing_format.value_or(""));
  if (!source.ok()) return AtDepth(1, source.status());
  return *std::move(source);
}

Task<absl::StatusOr<Links>> ReadLinks(const ImageFile& file) {
  Links links;
  if (file.format() != ImageFormat::kQcow2) co_return links;
  CO_ASSIGN_OR_RETURN(const Header header, co_await ReadHeader(file.disk()));
  // Before other files are looked for: what the image itself lacks is said first.
  CO_RETURN_IF_ERROR(CheckSupported(header));
  if (header.external_data()) {
    links.data_file = header.extensions.external_data_file;
    if (!links.data_file.has_value()) {
      co_return absl::InvalidArgumentError("'data-file' is required for this image");
    }
  }
  CO_ASSIGN_OR_RETURN(links.backing, BackingOf(file, header));
  co_return links;
}

absl::StatusOr<std::unique_ptr<UringDisk>> OpenDataFile(Rings& rings, const std::string& name,
                                                        const ImageFileOptions& options) {
  ASSIGN_OR_RETURN(const std::string path, LocalPath(name));
  return UringDisk::Open(rings, path,
                         {.read_only = options.read_only,
                          .direct = options.direct,
                          .force_share = options.force_share});
}

bool IsOpen(const std::vector<Layer>& layers, const std::string& path) {
  return std::any_of(layers.begin(), layers.end(),
                     [&path](const Layer& layer) { return layer.file.disk().IsNamed(path); });
}

absl::Status CheckBacking(const std::vector<Layer>& layers, const ImageSource& backing) {
  if (IsOpen(layers, backing.path)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Backing file '%s' creates an infinite loop.", backing.path));
  }
  if (layers.size() < ImageChain::kMaxLayers) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("The backing chain has more than %d files", ImageChain::kMaxLayers));
}

// The files alone, from the image down.
Task<absl::StatusOr<std::vector<Layer>>> OpenFiles(Rings& rings, ImageSource source,
                                                   ImageFileOptions options,
                                                   std::optional<size_t> also_writable) {
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
    if (const std::optional<std::string>& name = links->data_file; name.has_value()) {
      auto data_file = OpenDataFile(rings, *name, options);
      if (!data_file.ok()) co_return AtDepth(depth, data_file.status());
      layers.back().data_file = *std::move(data_file);
    }
    std::optional<ImageSource>& backing = links->backing;
    if (!backing.has_value()) co_return layers;
    const absl::Status status = CheckBacking(layers, *backing);
    if (!status.ok()) co_return AtDepth(depth + 1, status);
    source = *std::move(backing);
    options.read_only = layers.size() != also_writable;
  }
}

Task<absl::Status> OpenGuest(Layer& layer, OpenOptions options) {
  if (layer.file.format() == ImageFormat::kRaw) {
    layer.guest = std::make_unique<RawImage>(layer.file.disk(), options.read_only);
    co_return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<Image>> image = co_await Image::Open(layer.file.disk(), options);
  if (!image.ok()) co_return WithoutName(image.status(), layer.file.disk());
  layer.image = image->get();
  layer.guest = *std::move(image);
  co_return absl::OkStatus();
}

}  // namespace

Task<absl::StatusOr<std::unique_ptr<ImageChain>>> ImageChain::Open(Rings& rings, std::string name,
                                                                   ImageChainOptions options) {
  CO_ASSIGN_OR_RETURN(ImageSource source, SourceOf(name, options.file.format));
  CO_ASSIGN_OR_RETURN(
      std::vector<Layer> layers,
      co_await OpenFiles(rings, std::move(source), options.file, options.also_writable));
  // From the last backing file up, since each needs the one below it.
  for (size_t depth = layers.size(); depth-- > 0;) {
    OpenOptions layer_options = depth == 0 ? options.image : OpenOptions();
    const FormatOptions& described = layers[depth].file.format_options();
    if (described.l2_cache_bytes > 0) layer_options.l2_cache_bytes = described.l2_cache_bytes;
    if (described.refcount_cache_bytes > 0) {
      layer_options.refcount_cache_bytes = described.refcount_cache_bytes;
    }
    layer_options.replaces_backing = described.replaces_backing;
    layer_options.read_only = depth == 0 ? options.file.read_only : depth != options.also_writable;
    layer_options.backing = depth + 1 < layers.size() ? layers[depth + 1].guest.get() : nullptr;
    layer_options.data_file = layers[depth].data_file.get();
    const absl::Status status = co_await OpenGuest(layers[depth], layer_options);
    if (!status.ok()) co_return AtDepth(depth, status);
  }
  co_return absl::WrapUnique(new ImageChain(std::move(layers)));
}

// Overlays go before what they read from.
ImageChain::~ImageChain() {
  for (Layer& layer : layers_) layer.guest.reset();
}

Task<absl::Status> ImageChain::Close() {
  absl::Status status;
  for (const Layer& layer : layers_) status.Update(co_await layer.guest->Close());
  co_return status;
}

}  // namespace ringcow
