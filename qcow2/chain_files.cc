#include "qcow2/chain_files.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "engine/uring_disk.h"
#include "qcow2/backing_name.h"
#include "qcow2/foreign.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/unsupported.h"
#include "qcow2/image_description.h"
#include "qcow2/options_of_format.h"
#include "qcow2/read_header.h"
#include "qcow2/reworded.h"

namespace ringcow {
namespace {

// The other files that an image needs.
struct Links {
  std::optional<ImageSource> backing = std::nullopt;
  std::optional<ImageSource> data_file = std::nullopt;
  bool has_external_data = false;
  CacheBytes caches = {};
};

// A description that tells how, and not what, is of the file with this name, if there is one.
ImageDescription WithFile(const ImageDescription& description, const std::string& name) {
  std::map<std::string, std::string> options = description.options();
  const bool has_file = std::any_of(options.begin(), options.end(), [](const auto& option) {
    return absl::StartsWith(option.first, "file") || option.first == "filename";
  });
  if (!has_file && !name.empty()) options["file.filename"] = name;
  return ImageDescription(std::move(options));
}

// The driver that the image's bytes come from in the end.
std::string BottomOf(const ImageSource& source) {
  const ImageSource* lowest = &source;
  while (lowest->image != nullptr) lowest = lowest->image.get();
  return lowest->bottom;
}

// The backing file, if there is one: that of the description, or else of the header.
absl::StatusOr<std::optional<ImageSource>> BackingOf(const ImageFile& file, const Header& header) {
  const FormatOptions& options = file.format_options();
  if (!options.replaces_backing && header.backing_file.empty()) return std::nullopt;
  if (options.replaces_backing && !options.backing.has_value()) return std::nullopt;
  const bool is_lost = IsLost(file.host().path(), header.backing_file);
  if (is_lost && !options.backing.has_value()) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "Cannot generate a base directory for %s nodes", BottomOf(file.host().source())));
  }
  const std::string named = is_lost ? "" : FullBackingPath(file.host().path(), header.backing_file);
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
  // A file's name and nothing else, whatever it begins with.
  ImageSource source;
  source.path = *name;
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

Task<absl::StatusOr<Links>> ReadLinks(const ImageFile& file, bool for_check) {
  Links links;
  if (file.format() != ImageFormat::kQcow2) co_return links;
  const HeaderChecks checks = for_check ? HeaderChecks::kForRepair : HeaderChecks::kForIo;
  CO_ASSIGN_OR_RETURN(const Header header, co_await ReadHeader(file.disk(), checks));
  if (header.crypt_method == CryptMethod::kLuks && !header.extensions.crypto_header.has_value()) {
    co_return absl::InvalidArgumentError("Missing CRYPTO header for crypt method 2");
  }
  // Before other files are looked for: what the image itself lacks is said first.
  if (!for_check) CO_RETURN_IF_ERROR(CheckSupported(header));
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
  absl::StatusOr<std::optional<ImageSource>> backing = BackingOf(file, header);
  const bool ends_chain = for_check && IsForeign(backing.status());
  if (!backing.ok() && !ends_chain) co_return backing.status();
  if (backing.ok()) links.backing = *std::move(backing);
  co_return links;
}

bool IsOpen(const std::vector<ChainFiles>& layers, const ImageSource& source) {
  if (!source.is_in_file()) return false;
  return std::any_of(layers.begin(), layers.end(), [&source](const ChainFiles& layer) {
    const UringDisk* const file = layer.file.host().file();
    return file != nullptr && file->IsNamed(source.path);
  });
}

absl::Status CheckBacking(const std::vector<ChainFiles>& layers, const ImageSource& backing) {
  if (IsOpen(layers, backing)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Backing file '%s' creates an infinite loop.", backing.path));
  }
  if (layers.size() < kMaxLayersOfChain) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("The backing chain has more than %d files", kMaxLayersOfChain));
}

Task<absl::Status> OpenDataFile(Rings& rings, const ImageSource& source, bool is_wanted,
                                const ImageFileOptions& options, ChainFiles& layer) {
  CO_ASSIGN_OR_RETURN(layer.data_file, co_await HostFile::Open(rings, source, options));
  if (is_wanted) co_return absl::OkStatus();
  co_return absl::InvalidArgumentError(
      "'data-file' can only be set for images with an external data file");
}

}  // namespace

Task<absl::StatusOr<std::vector<ChainFiles>>> OpenChainFiles(Rings& rings, ImageSource source,
                                                             ChainFilesOptions chain) {
  ImageFileOptions options = chain.file;
  std::vector<ChainFiles> layers;
  while (true) {
    const size_t depth = layers.size();
    absl::StatusOr<ImageFile> file = co_await ImageFile::Open(rings, std::move(source), options);
    if (depth > 0 && chain.for_check && IsForeign(file.status())) co_return layers;
    if (!file.ok()) co_return AtDepth(depth, file.status());
    layers.push_back({.file = *std::move(file)});

    absl::StatusOr<Links> links = co_await ReadLinks(layers.back().file, chain.for_check);
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

Task<absl::Status> CloseChainFiles(ChainFiles& files) {
  absl::Status status;
  if (files.data_file.has_value()) status.Update(co_await files.data_file->Close());
  status.Update(co_await files.file.Close());
  co_return status;
}

}  // namespace ringcow
