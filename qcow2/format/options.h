#ifndef RINGCOW_QCOW2_FORMAT_OPTIONS_H_
#define RINGCOW_QCOW2_FORMAT_OPTIONS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"

namespace ringcow {

enum class Preallocation { kOff, kMetadata, kFalloc, kFull };

// What a new image is to be like. The defaults are QEMU's.
struct CreateOptions {
  uint64_t virtual_size = 0;  // bytes, rounded up to whole sectors
  uint32_t version = 3;
  uint64_t cluster_size = 65536;
  uint64_t refcount_bits = 16;
  bool lazy_refcounts = false;
  bool extended_l2 = false;
  CompressionType compression_type = CompressionType::kZlib;
  Preallocation preallocation = Preallocation::kOff;
  std::string backing_file = {};    // as the header will name it; empty: none
  std::string backing_format = {};  // "qcow2", "raw"; empty: whoever opens it has to look
  std::string data_file = {};       // the external one, as the header will name it; empty: none
  bool data_file_raw = false;       // which by itself is the disk
};

// The geometry of such an image, its virtual size rounded up. InvalidArgument for options that do
// not exist or exclude each other, OutOfRange for a size the cluster size cannot carry; in QEMU's
// words.
absl::StatusOr<Geometry> ValidateCreateOptions(const CreateOptions& options);

// The values that users write: "off", "metadata", "falloc", "full"; "0.10" or "v2", "1.1" or "v3";
// "zlib", "zstd". InvalidArgument in QEMU's words for anything else.
absl::StatusOr<Preallocation> ParsePreallocation(absl::string_view value);
absl::StatusOr<uint32_t> ParseCompat(absl::string_view value);  // the version
absl::StatusOr<CompressionType> ParseCompressionType(absl::string_view value);

absl::string_view PreallocationName(Preallocation preallocation);
absl::string_view CompatName(uint32_t version);  // "0.10" or "1.1"
absl::string_view CompressionTypeName(CompressionType type);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_FORMAT_OPTIONS_H_
