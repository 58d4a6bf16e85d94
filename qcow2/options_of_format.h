#ifndef RINGCOW_QCOW2_OPTIONS_OF_FORMAT_H_
#define RINGCOW_QCOW2_OPTIONS_OF_FORMAT_H_

#include <chrono>
#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "qcow2/format/image_format.h"
#include "qcow2/image_description.h"
#include "qcow2/image_source.h"
#include "qcow2/overlap_guard.h"
#include "qcow2/pass_discard_options.h"
#include "qcow2/raw_window.h"

namespace ringcow {

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

#endif  // RINGCOW_QCOW2_OPTIONS_OF_FORMAT_H_
