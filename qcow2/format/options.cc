#include "qcow2/format/options.h"

#include <bit>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "qcow2/format/limits.h"
#include "qcow2/format/units.h"

namespace ringcow {
namespace {

// In QEMU's order, so that of several mistakes both complain about the same.
absl::Status CheckFeatures(const CreateOptions& options) {
  const auto needs_version3 = [](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrFormat("%s (use version=v3 or greater)", what));
  };
  const bool version2 = options.version < 3;
  if (version2 && options.lazy_refcounts) {
    return needs_version3("Lazy refcounts only supported with compatibility level 1.1 and above");
  }
  if (version2 && options.extended_l2) {
    return needs_version3(
        "Extended L2 entries are only supported with compatibility level 1.1 and above");
  }
  if (options.extended_l2 && options.cluster_size < kMinExtendedL2ClusterBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Extended L2 entries are only supported with cluster sizes of at least %d "
                        "bytes",
                        kMinExtendedL2ClusterBytes));
  }
  if (version2 && !options.data_file.empty()) {
    return needs_version3(
        "External data files are only supported with compatibility level 1.1 and above");
  }
  if (options.data_file_raw && options.data_file.empty()) {
    return absl::InvalidArgumentError("data-file-raw requires data-file");
  }
  if (options.data_file_raw && !options.backing_file.empty()) {
    return absl::InvalidArgumentError(
        "Backing file and data-file-raw cannot be used at the same time");
  }
  if (!IsPowerOfTwo(options.refcount_bits) || options.refcount_bits > 64) {
    return absl::InvalidArgumentError(
        "Refcount width must be a power of two and may not exceed 64 bits");
  }
  if (version2 && options.refcount_bits != 16) {
    return needs_version3(
        "Different refcount widths than 16 bits require compatibility level 1.1 or above");
  }
  if (version2 && options.compression_type != CompressionType::kZlib) {
    return needs_version3(
        "Non-zlib compression type is only supported with compatibility level 1.1 and above");
  }
  return absl::OkStatus();
}

absl::Status TooLarge() {
  return absl::OutOfRangeError(
      "The image size is too large for file format 'qcow2' (try using a larger cluster size)");
}

absl::Status NotAccepted(absl::string_view parameter, absl::string_view value) {
  return absl::InvalidArgumentError(
      absl::StrFormat("Parameter '%s' does not accept value '%s'", parameter, value));
}

}  // namespace

absl::StatusOr<Geometry> ValidateCreateOptions(const CreateOptions& options) {
  constexpr uint64_t kMinClusterBytes = uint64_t{1} << kMinClusterBits;
  constexpr uint64_t kMaxClusterBytes = uint64_t{1} << kMaxClusterBits;
  if (!IsPowerOfTwo(options.cluster_size) || options.cluster_size < kMinClusterBytes ||
      options.cluster_size > kMaxClusterBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Cluster size must be a power of two between %d and %dk", kMinClusterBytes,
                        kMaxClusterBytes / 1024));
  }
  RETURN_IF_ERROR(CheckFeatures(options));
  if (options.virtual_size > kMaxFileOffset) return TooLarge();
  absl::StatusOr<Geometry> geometry = Geometry::Create(
      {.version = options.version,
       .cluster_bits = static_cast<uint32_t>(std::countr_zero(options.cluster_size)),
       .refcount_order = static_cast<uint32_t>(std::countr_zero(options.refcount_bits)),
       .virtual_size = AlignUp(options.virtual_size, kSectorBytes),
       .extended_l2 = options.extended_l2});
  if (absl::IsOutOfRange(geometry.status())) return TooLarge();
  return geometry;
}

absl::StatusOr<Preallocation> ParsePreallocation(absl::string_view value) {
  for (Preallocation preallocation : {Preallocation::kOff, Preallocation::kMetadata,
                                      Preallocation::kFalloc, Preallocation::kFull}) {
    if (value == PreallocationName(preallocation)) return preallocation;
  }
  return NotAccepted("preallocation", value);
}

absl::StatusOr<uint32_t> ParseCompat(absl::string_view value) {
  if (value == "0.10" || value == "v2") return 2;
  if (value == "1.1" || value == "v3") return 3;
  return NotAccepted("version", value);
}

absl::StatusOr<CompressionType> ParseCompressionType(absl::string_view value) {
  for (CompressionType type : {CompressionType::kZlib, CompressionType::kZstd}) {
    if (value == CompressionTypeName(type)) return type;
  }
  return NotAccepted("compression-type", value);
}

absl::string_view PreallocationName(Preallocation preallocation) {
  switch (preallocation) {
    case Preallocation::kOff:
      return "off";
    case Preallocation::kMetadata:
      return "metadata";
    case Preallocation::kFalloc:
      return "falloc";
    case Preallocation::kFull:
      return "full";
  }
  return "unknown";
}

absl::string_view CompatName(uint32_t version) { return version == 2 ? "0.10" : "1.1"; }

absl::string_view CompressionTypeName(CompressionType type) {
  return type == CompressionType::kZstd ? "zstd" : "zlib";
}

}  // namespace ringcow
