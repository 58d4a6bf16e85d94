#include "qcow2/options_of_format.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "qcow2/node_options.h"
#include "qcow2/overlap_check_option.h"
#include "qcow2/reworded.h"

namespace ringcow {
namespace {

absl::Status TakeCacheSizes(ImageDescription& options, FormatOptions& taken) {
  ASSIGN_OR_RETURN(const std::optional<uint64_t> both, options.TakeBytes("cache-size"));
  ASSIGN_OR_RETURN(const std::optional<uint64_t> l2, options.TakeBytes("l2-cache-size"));
  ASSIGN_OR_RETURN(const std::optional<uint64_t> refcounts,
                   options.TakeBytes("refcount-cache-size"));
  taken.l2_cache_bytes = l2.value_or(0);
  taken.refcount_cache_bytes = refcounts.value_or(0);
  if (!both.has_value()) return absl::OkStatus();
  if (l2.has_value() && refcounts.has_value()) {
    return absl::InvalidArgumentError(
        "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time");
  }
  if (taken.l2_cache_bytes > *both) {
    return absl::InvalidArgumentError("l2-cache-size may not exceed cache-size");
  }
  if (taken.refcount_cache_bytes > *both) {
    return absl::InvalidArgumentError("refcount-cache-size may not exceed cache-size");
  }
  taken.cache_bytes = std::max<uint64_t>(*both, 1);
  return absl::OkStatus();
}

absl::Status TakePassDiscard(ImageDescription& options, PassDiscardOptions& taken) {
  ASSIGN_OR_RETURN(const auto request, options.TakeFlag("pass-discard-request"));
  ASSIGN_OR_RETURN(const auto snapshot, options.TakeFlag("pass-discard-snapshot"));
  ASSIGN_OR_RETURN(const auto other, options.TakeFlag("pass-discard-other"));
  taken.request = request.value_or(taken.request);
  taken.snapshot = snapshot.value_or(taken.snapshot);
  taken.other = other.value_or(taken.other);
  return absl::OkStatus();
}

absl::Status TakeCleanInterval(ImageDescription& options, FormatOptions& taken) {
  const std::optional<std::string> text = options.Take("cache-clean-interval");
  if (!text.has_value()) return absl::OkStatus();
  int64_t seconds = 0;
  if (!absl::SimpleAtoi(*text, &seconds)) {
    return absl::InvalidArgumentError("Parameter 'cache-clean-interval' expects a number");
  }
  if (seconds < 0 || seconds > std::numeric_limits<uint32_t>::max()) {
    return absl::InvalidArgumentError("Cache clean interval too big");
  }
  taken.cache_clean_interval = std::chrono::seconds(seconds);
  return absl::OkStatus();
}

absl::Status TakeDataFile(ImageDescription& options, FormatOptions& taken) {
  if (const std::optional<std::string> node = options.Take("data-file")) return NoSuchNode(*node);
  std::optional<ImageDescription> data_file = options.TakeChild("data-file");
  if (!data_file.has_value()) return absl::OkStatus();
  ImageSource source;
  RETURN_IF_ERROR(TakeProtocol(*std::move(data_file), source));
  taken.data_file = std::move(source);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<FormatOptions> TakeFormatOptions(ImageDescription options, ImageFormat format) {
  FormatOptions taken;
  if (format == ImageFormat::kQcow2) {
    ASSIGN_OR_RETURN(const std::optional<bool> lazy, options.TakeFlag("lazy-refcounts"));
    taken.lazy_refcounts = lazy.value_or(false);
    RETURN_IF_ERROR(TakeCacheSizes(options, taken));
    ASSIGN_OR_RETURN(const std::optional<uint64_t> entry, options.TakeBytes("l2-cache-entry-size"));
    taken.l2_entry_bytes = entry.value_or(0);
    ASSIGN_OR_RETURN(taken.overlap_check, TakeOverlapCheck(options));
    RETURN_IF_ERROR(TakeDataFile(options, taken));
    RETURN_IF_ERROR(TakePassDiscard(options, taken.pass_discard));
    RETURN_IF_ERROR(TakeCleanInterval(options, taken));
    if (const std::optional<std::string> node = options.Take("backing")) {
      if (!node->empty()) return AtDepth(1, NoSuchNode(*node));
      taken.replaces_backing = true;
    }
    taken.backing = options.TakeChild("backing");
    taken.replaces_backing |= taken.backing.has_value();
    RETURN_IF_ERROR(TakeOneOf(options, "discard-no-unref", {"off"}));
  } else {
    ASSIGN_OR_RETURN(const std::optional<uint64_t> offset, options.TakeBytes("offset"));
    taken.raw_window.offset = offset.value_or(0);
    ASSIGN_OR_RETURN(taken.raw_window.size, options.TakeBytes("size"));
  }
  RETURN_IF_ERROR(CheckNothingIsLeft(options, FormatName(format)));
  return taken;
}

}  // namespace ringcow
