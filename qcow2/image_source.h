#ifndef RINGCOW_QCOW2_IMAGE_SOURCE_H_
#define RINGCOW_QCOW2_IMAGE_SOURCE_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qcow2/blkdebug/options.h"
#include "qcow2/format/image_format.h"
#include "qcow2/image_description.h"
#include "qcow2/overlap_guard.h"
#include "qcow2/pass_discard_options.h"
#include "qcow2/raw_window.h"

namespace ringcow {

// What becomes of written zeroes: bytes; WriteZeroes; or that, and their space is given back.
enum class DetectZeroes : uint8_t { kOff, kOn, kUnmap };

// The local file that a name or a description means, and how that wants it to be opened.
struct ImageSource {
  std::string path;
  std::string format;      // empty: look at the file
  bool read_only = false;  // "read-only": not for writing, whoever asks
  bool force_share = false;
  bool unlocked = false;                      // "locking": "off": neither takes nor respects locks
  std::optional<bool> direct = std::nullopt;  // "cache.direct"
  bool ignores_discards = false;              // "discard": "ignore"
  DetectZeroes detect_zeroes = DetectZeroes::kOff;
  std::optional<BlkdebugOptions> blkdebug = std::nullopt;        // what lies on the file
  std::optional<BlkdebugOptions> guest_blkdebug = std::nullopt;  // and on the image in it
  ImageDescription options{{}};                                  // those of the format
};

// `name` is a path, "file:PATH", "blkdebug:CONFIG:PATH" or "json:{...}". A `format` that is not
// empty is what the caller insists on. InvalidArgument for names of other protocols ("nbd:...") and
// options that contradict each other, NotFound for nodes by name, Unimplemented for drivers and
// options that ringcow does not have; in QEMU's words.
absl::StatusOr<ImageSource> SourceOf(absl::string_view name, absl::string_view format);
absl::StatusOr<ImageSource> SourceOf(ImageDescription description, absl::string_view format);

// The image of that name, opened as `options` say. Errors as above.
absl::StatusOr<ImageDescription> DescriptionOf(absl::string_view name,
                                               std::map<std::string, std::string> options);

// What the options say about the image in the file.
struct FormatOptions {
  RawWindow raw_window;
  uint64_t l2_cache_bytes = 0;  // 0: not said
  uint64_t refcount_cache_bytes = 0;
  uint64_t cache_bytes = 0;  // both together
  uint64_t l2_entry_bytes = 0;
  // Refcounts are kept exact all the time, which this only permits not to do.
  bool lazy_refcounts = false;
  std::optional<OverlapCheck> overlap_check = std::nullopt;
  PassDiscardOptions pass_discard;
  std::chrono::seconds cache_clean_interval{0};
  // Another data file than the header names.
  std::optional<ImageSource> data_file = std::nullopt;
  // Another backing file than the header names: this one, or none (null, or "").
  bool replaces_backing = false;
  std::optional<ImageDescription> backing = std::nullopt;
};

// Errors as SourceOf, InvalidArgument for options that the format does not have.
absl::StatusOr<FormatOptions> TakeFormatOptions(ImageDescription options, ImageFormat format);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_IMAGE_SOURCE_H_
