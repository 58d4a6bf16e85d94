#include "qcow2/amend.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "qcow2/check.h"
#include "qcow2/failure_reason.h"
#include "qcow2/format/header.h"
#include "qcow2/format/snapshot_table.h"
#include "qcow2/header_update.h"
#include "qcow2/read_header.h"
#include "qcow2/refcount_width.h"
#include "qcow2/zero_expansion.h"

namespace ringcow {
namespace {

using absl::InvalidArgumentError;
using absl::UnimplementedError;

bool Downgrades(const Header& header, const AmendOptions& options) {
  return options.version.value_or(header.version) < header.version;
}

bool AlreadySays(const std::optional<std::string>& wanted, const std::string& now) {
  return wanted.value_or("") == now && wanted.has_value() != now.empty();
}

absl::Status CheckBacking(const Header& header, const AmendOptions& options) {
  if (!options.backing_file.has_value() && !options.backing_format.has_value()) {
    return absl::OkStatus();
  }
  if (AlreadySays(options.backing_file, header.backing_file) &&
      AlreadySays(options.backing_format, header.extensions.backing_format.value_or(""))) {
    return absl::OkStatus();
  }
  return InvalidArgumentError(
      "Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.");
}

absl::Status CheckRefcountBits(const Header& header, const AmendOptions& options,
                               uint32_t version) {
  const uint64_t now = uint64_t{1} << header.refcount_order;
  const uint64_t bits = options.refcount_bits.value_or(now);
  if (!std::has_single_bit(bits) || bits > 64) {
    return InvalidArgumentError("Refcount width must be a power of two and may not exceed 64 bits");
  }
  if (version < 3 && bits != 16) {
    return InvalidArgumentError(
        options.refcount_bits.has_value()
            ? "Refcount widths other than 16 bits require compatibility level 1.1 or above (use "
              "compat=1.1 or greater)"
            : "compat=0.10 requires refcount_bits=16");
  }
  return absl::OkStatus();
}

absl::Status CheckDataFile(const Header& header, const AmendOptions& options) {
  if (options.data_file.has_value() && !header.external_data()) {
    return InvalidArgumentError(
        "data-file can only be set for images that use an external data file");
  }
  if (options.data_file_raw.value_or(false) && !header.raw_external_data()) {
    return InvalidArgumentError("data-file-raw cannot be set on existing images");
  }
  return absl::OkStatus();
}

absl::Status CheckDowngrade(const Image& image, uint64_t virtual_size) {
  const Header& header = image.header();
  if (header.external_data()) {
    return UnimplementedError("Cannot downgrade an image with a data file");
  }
  const bool all_alike = std::ranges::all_of(image.snapshots(), [&](const Snapshot& snapshot) {
    return snapshot.vm_state_bytes <= UINT32_MAX &&
           snapshot.virtual_size.value_or(virtual_size) == virtual_size;
  });
  if (!all_alike) return UnimplementedError("Internal snapshots prevent downgrade of image");
  if ((header.incompatible_features & ~kIncompatibleCompressionType) != 0) {
    return UnimplementedError(
        absl::StrFormat("Cannot downgrade an image with incompatible features %#x set",
                        header.incompatible_features));
  }
  // They would be lost.
  if (header.extensions.bitmaps.has_value()) {
    return UnimplementedError("Cannot downgrade an image with bitmaps");
  }
  return absl::OkStatus();
}

absl::Status Check(const Image& image, const AmendOptions& options) {
  const Header& header = image.header();
  const uint32_t version = options.version.value_or(header.version);
  RETURN_IF_ERROR(CheckDataFile(header, options));
  RETURN_IF_ERROR(CheckRefcountBits(header, options, version));
  RETURN_IF_ERROR(CheckBacking(header, options));
  const bool becomes_lazy = options.lazy_refcounts.value_or(false) && !header.lazy_refcounts();
  if (becomes_lazy && version < 3) {
    return InvalidArgumentError(
        "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or "
        "greater)");
  }
  if (!Downgrades(header, options)) return absl::OkStatus();
  return CheckDowngrade(image, options.virtual_size.value_or(header.virtual_size));
}

void SetBit(uint64_t& features, uint64_t bit, std::optional<bool> set) {
  if (set.has_value()) features = *set ? features | bit : features & ~bit;
}

// What the header alone says.
void Apply(const AmendOptions& options, Header& header) {
  header.version = options.version.value_or(header.version);
  SetBit(header.compatible_features, kCompatibleLazyRefcounts, options.lazy_refcounts);
  if (header.external_data()) {
    SetBit(header.autoclear_features, kAutoclearRawExternalData, options.data_file_raw);
  }
  if (options.data_file.has_value()) {
    header.extensions.external_data_file.reset();
    if (!options.data_file->empty()) header.extensions.external_data_file = options.data_file;
  }
  if (header.version >= 3) return;
  header.incompatible_features &= ~kIncompatibleCompressionType;
  header.compression_type = CompressionType::kZlib;
  header.compatible_features = 0;
  header.autoclear_features = 0;
}

// Whether the guest's disk has any. What is damaged on the way through its tables is met.
Task<absl::StatusOr<bool>> HasCompressed(Image& image) {
  bool has_any = false;
  for (uint64_t offset = 0; offset < image.size();) {
    CO_ASSIGN_OR_RETURN(const GuestExtent extent,
                        co_await image.Find(GuestOffset(offset), image.size() - offset));
    has_any = has_any || extent.compressed;
    offset += extent.bytes;
  }
  co_return has_any;
}

// Version 2 has clusters that zlib has compressed. Those of snapshots are not looked for.
Task<absl::Status> CheckCompressed(Image& image) {
  if (image.header().compression_type == CompressionType::kZlib) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const bool has_compressed, co_await HasCompressed(image));
  if (!has_compressed && image.snapshots().empty()) co_return absl::OkStatus();
  co_return UnimplementedError(
      "Cannot downgrade an image with zstd compression type and existing compressed clusters");
}

// Entries are changed in tables that nothing else may claim.
Task<absl::Status> CheckSound(Disk& disk, Image& image) {
  CO_ASSIGN_OR_RETURN(const CheckResult result, co_await CheckImage(disk, CheckOptions()));
  if (result.corruptions == 0 && result.check_errors == 0) co_return absl::OkStatus();
  // The image is marked for what QEMU would meet while it expands zeroes.
  const absl::StatusOr<bool> met = co_await HasCompressed(image);
  CO_RETURN_IF_ERROR(FailureOf("Failed to turn zero into data clusters", met.status()));
  co_return absl::FailedPreconditionError("Cannot downgrade a damaged image: check it first");
}

uint32_t RefcountOrder(const Header& header, const AmendOptions& options) {
  if (!options.refcount_bits.has_value()) return header.refcount_order;
  return static_cast<uint32_t>(std::countr_zero(*options.refcount_bits));
}

absl::StatusOr<Geometry> WithRefcountOrder(Header header, uint32_t order) {
  header.version = std::max(header.version, 3U);  // before it, there is one width
  header.refcount_order = order;
  return GeometryOf(header);
}

// Whether the refcounts there are could be stored so.
Task<absl::Status> CheckRefcountOrder(Disk& disk, const Image& image, uint32_t order) {
  const Header& header = image.header();
  if (order == header.refcount_order) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const Geometry next, WithRefcountOrder(header, order));
  RefcountWidthChange change(disk, header, image.geometry(), next);
  co_return co_await change.Load();
}

// Tells how far the part with this index has come, of the `parts` that take long.
using PartProgress = std::function<void(uint64_t done, uint64_t all)>;
PartProgress ProgressOf(const AmendOptions& options, uint64_t part, uint64_t parts) {
  return [progress = options.on_progress, part, parts](uint64_t done, uint64_t all) {
    if (progress) progress(part * all + done, parts * all);
  };
}

bool ChangesVersion(const Header& now, const AmendOptions& options) {
  return options.version.value_or(now.version) != now.version;
}

uint64_t LongParts(const Header& now, const AmendOptions& options) {
  const bool changes_width = RefcountOrder(now, options) != now.refcount_order;
  return (ChangesVersion(now, options) ? 1 : 0) + (changes_width ? 1 : 0);
}

// `header` is as it is to be, but for its refcounts.
Task<absl::Status> UpdateHeaderAndRefcounts(Disk& disk, const Header& now, Header header,
                                            uint32_t order, PartProgress progress) {
  CO_ASSIGN_OR_RETURN(const Geometry geometry, GeometryOf(now));
  CO_ASSIGN_OR_RETURN(const Geometry next, WithRefcountOrder(header, order));
  RefcountWidthChange change(disk, now, geometry, next);
  CO_RETURN_IF_ERROR(co_await change.Load());
  CO_ASSIGN_OR_RETURN(const RefcountTablePlace place, co_await change.Write(std::move(progress)));
  header.refcount_order = order;
  header.refcount_table_offset = place.offset;
  header.refcount_table_clusters = place.clusters;
  CO_RETURN_IF_ERROR(co_await UpdateHeader(disk, header));
  co_return co_await change.FreeOld(header);
}

}  // namespace

Task<absl::Status> PrepareAmend(Disk& disk, Image& image, AmendOptions options) {
  CO_RETURN_IF_ERROR(Check(image, options));
  const bool downgrades = Downgrades(image.header(), options);
  if (downgrades) {
    CO_RETURN_IF_ERROR(co_await CheckCompressed(image));
    CO_RETURN_IF_ERROR(co_await CheckSound(disk, image));
  }
  const PartProgress progress = ProgressOf(options, 0, LongParts(image.header(), options));
  if (options.version.value_or(0) > image.header().version) {
    CO_RETURN_IF_ERROR(co_await image.CompleteSnapshots());
    progress(1, 1);
  }
  CO_RETURN_IF_ERROR(
      co_await CheckRefcountOrder(disk, image, RefcountOrder(image.header(), options)));
  if (options.virtual_size.has_value()) {
    CO_RETURN_IF_ERROR(co_await image.Resize(*options.virtual_size, Preallocation::kOff));
  }
  if (!downgrades) co_return absl::OkStatus();
  uint64_t of_snapshots = 0;  // L2 tables, at most
  for (const Snapshot& snapshot : image.snapshots()) of_snapshots += snapshot.l1_entries;
  const uint64_t of_image = image.geometry().l1_entries();
  CO_RETURN_IF_ERROR(co_await image.ExpandSnapshotZeroes(
      [&](uint64_t done) { progress(done, of_snapshots + of_image); }));
  co_return co_await ExpandZeroClusters(image, [&](uint64_t done, uint64_t all) {
    progress(of_snapshots + done, of_snapshots + all);
  });
}

Task<absl::Status> FinishAmend(Disk& disk, AmendOptions options) {
  CO_ASSIGN_OR_RETURN(Header header, co_await ReadHeader(disk));
  if (Downgrades(header, options) && header.backing_file.empty()) {
    CO_RETURN_IF_ERROR(co_await ForgetPlainZeroes(disk));
  }
  const Header now = header;
  Apply(options, header);
  if (const uint32_t order = RefcountOrder(now, options); order != now.refcount_order) {
    const uint64_t parts = LongParts(now, options);
    co_return co_await UpdateHeaderAndRefcounts(disk, now, std::move(header), order,
                                                ProgressOf(options, parts - 1, parts));
  }
  co_return co_await UpdateHeader(disk, std::move(header));
}

}  // namespace ringcow
