#include "qcow2/image_source.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "engine/status_macros.h"
#include "qcow2/backing_name.h"
#include "qcow2/overlap_check_option.h"

namespace ringcow {
namespace {

constexpr absl::string_view kBlkdebugDriver = "blkdebug";

bool IsFileDriver(absl::string_view driver) { return driver == "file" || driver == "host_device"; }

absl::Status NotYet(absl::string_view option) {
  return absl::UnimplementedError(absl::StrFormat("The option '%s' is not supported yet", option));
}

// An option of which only some values are carried out; any other is refused.
absl::Status TakeOneOf(ImageDescription& options, const std::string& name,
                       std::initializer_list<absl::string_view> values) {
  const std::optional<std::string> value = options.Take(name);
  if (!value.has_value()) return absl::OkStatus();
  for (const absl::string_view possible : values) {
    if (*value == possible) return absl::OkStatus();
  }
  return NotYet(absl::StrFormat("%s=%s", name, *value));
}

// What the guest's discards do.
absl::Status TakeDiscard(ImageDescription& options, ImageSource& source) {
  const std::optional<std::string> value = options.Take("discard");
  if (!value.has_value() || *value == "unmap" || *value == "on") return absl::OkStatus();
  if (*value != "ignore" && *value != "off") {
    return absl::InvalidArgumentError("Invalid discard option");
  }
  source.ignores_discards = true;
  return absl::OkStatus();
}

absl::Status TakeDetectZeroes(ImageDescription& options, bool unmaps, ImageSource& source) {
  const std::string value = options.Take("detect-zeroes").value_or("off");
  if (value == "unmap" && !unmaps) {
    return absl::InvalidArgumentError(
        "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
  }
  if (value == "on") source.detect_zeroes = DetectZeroes::kOn;
  if (value == "unmap") source.detect_zeroes = DetectZeroes::kUnmap;
  if (value == "off" || source.detect_zeroes != DetectZeroes::kOff) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("invalid parameter value: %s", value));
}

// Options that a node of any kind may have.
absl::Status TakeNodeOptions(ImageDescription& options, ImageSource& source) {
  options.Take("node-name");  // nothing can refer to it
  ASSIGN_OR_RETURN(const std::optional<bool> read_only, options.TakeFlag("read-only"));
  source.read_only |= read_only.value_or(false);
  ASSIGN_OR_RETURN(const std::optional<bool> force_share, options.TakeFlag("force-share"));
  source.force_share |= force_share.value_or(false);
  ASSIGN_OR_RETURN(const std::optional<bool> direct, options.TakeFlag("cache.direct"));
  if (direct.has_value()) source.direct = direct;
  RETURN_IF_ERROR(TakeOneOf(options, "cache.no-flush", {"off"}));
  return TakeOneOf(options, "auto-read-only", {"off"});
}

absl::Status TakeLocking(ImageDescription& options, ImageSource& source) {
  const std::string value = options.Take("locking").value_or("auto");
  source.unlocked = value == "off";
  if (value == "auto" || value == "on" || value == "off") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("invalid parameter value: %s", value));
}

absl::Status TakeFileOptions(ImageDescription options, ImageSource& source) {
  const std::optional<std::string> path = options.Take("filename");
  if (!path.has_value()) {
    return absl::InvalidArgumentError("The 'file' block driver requires a file name");
  }
  source.path = *path;
  RETURN_IF_ERROR(TakeNodeOptions(options, source));
  RETURN_IF_ERROR(TakeOneOf(options, "detect-zeroes", {"off"}));
  RETURN_IF_ERROR(TakeOneOf(options, "discard", {"unmap", "on"}));
  RETURN_IF_ERROR(TakeLocking(options, source));
  // Names only: all I/O goes through io_uring.
  RETURN_IF_ERROR(TakeOneOf(options, "aio", {"threads", "native", "io_uring"}));
  if (options.options().empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "Block protocol 'file' doesn't support the option '%s'", options.options().begin()->first));
}

absl::Status NoSuchNode(const std::string& node) {
  return absl::NotFoundError(
      absl::StrFormat("Cannot find device='%s' nor node-name='%s'", node, node));
}

absl::Status TakeProtocol(ImageDescription options, ImageSource& source);

// Takes a blkdebug's own options, and gives those of what it lies on.
absl::StatusOr<ImageDescription> TakeBlkdebug(ImageDescription options, ImageSource& source,
                                              std::optional<BlkdebugOptions>& blkdebug) {
  if (blkdebug.has_value()) return NotYet("image.driver=blkdebug");
  ASSIGN_OR_RETURN(blkdebug, TakeBlkdebugOptions(options));
  RETURN_IF_ERROR(TakeNodeOptions(options, source));
  if (const std::optional<std::string> node = options.Take("image")) return NoSuchNode(*node);
  std::optional<ImageDescription> image = options.TakeChild("image");
  if (!image.has_value()) {
    return absl::InvalidArgumentError("A block device must be specified for \"image\"");
  }
  if (options.options().empty()) return *std::move(image);
  return absl::InvalidArgumentError(
      absl::StrFormat("Block protocol 'blkdebug' doesn't support the option '%s'",
                      options.options().begin()->first));
}

absl::Status TakeFileChild(ImageDescription& description, ImageSource& source) {
  if (const std::optional<std::string> node = description.Take("file")) return NoSuchNode(*node);
  std::optional<ImageDescription> file = description.TakeChild("file");
  if (!file.has_value()) {
    return absl::InvalidArgumentError(source.format.empty()
                                          ? "Must specify either driver or file"
                                          : "A block device must be specified for \"file\"");
  }
  return TakeProtocol(*std::move(file), source);
}

// What an image's bytes come from.
absl::Status TakeProtocol(ImageDescription options, ImageSource& source) {
  const std::string driver = options.Take("driver").value_or("file");
  if (IsFileDriver(driver)) return TakeFileOptions(std::move(options), source);
  if (driver == kBlkdebugDriver) {
    ASSIGN_OR_RETURN(ImageDescription image,
                     TakeBlkdebug(std::move(options), source, source.blkdebug));
    return TakeProtocol(std::move(image), source);
  }
  return absl::UnimplementedError(absl::StrFormat("Unknown driver '%s'", driver));
}

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
  if (data_file->options().contains("driver") && data_file->options().at("driver") == "raw") {
    // The file, as it is.
    source.format = data_file->Take("driver").value_or("");
    RETURN_IF_ERROR(TakeFileChild(*data_file, source));
    RETURN_IF_ERROR(TakeNodeOptions(*data_file, source));
    if (!data_file->options().empty()) {
      return NotYet(absl::StrFormat("data-file.%s", data_file->options().begin()->first));
    }
  } else {
    RETURN_IF_ERROR(TakeProtocol(*std::move(data_file), source));
  }
  taken.data_file = std::move(source);
  return absl::OkStatus();
}

// A blkdebug with nothing above it: on a file, or on the image in one.
absl::StatusOr<ImageSource> SourceOfBlkdebug(ImageDescription description) {
  ImageSource source;
  std::optional<BlkdebugOptions> blkdebug;
  ASSIGN_OR_RETURN(ImageDescription below, TakeBlkdebug(std::move(description), source, blkdebug));
  const auto driver = below.options().find("driver");
  if (driver != below.options().end() && FormatByName(driver->second).has_value()) {
    ASSIGN_OR_RETURN(ImageSource image, SourceOf(std::move(below), ""));
    if (image.guest_blkdebug.has_value()) return NotYet("image.driver=blkdebug");
    image.guest_blkdebug = std::move(blkdebug);
    image.read_only |= source.read_only;
    image.force_share |= source.force_share;
    return image;
  }
  source.format = std::string(FormatName(ImageFormat::kRaw));
  source.blkdebug = std::move(blkdebug);
  RETURN_IF_ERROR(TakeProtocol(std::move(below), source));
  return source;
}

// Takes "blkdebug:CONFIG:" off `name`, and puts it into the options.
absl::Status TakeBlkdebugName(absl::string_view& name,
                              std::map<std::string, std::string>& options) {
  if (!absl::ConsumePrefix(&name, "blkdebug:")) return absl::OkStatus();
  const size_t colon = name.find(':');
  if (colon == absl::string_view::npos) {
    return absl::InvalidArgumentError("blkdebug requires both config file and image path");
  }
  const bool is_top = options["driver"] == kBlkdebugDriver;
  if (options["driver"].empty()) options.erase("driver");
  const std::string prefix = is_top ? "" : "file.";
  options.emplace(absl::StrCat(prefix, "driver"), kBlkdebugDriver);
  if (colon > 0) options.emplace(absl::StrCat(prefix, "config"), name.substr(0, colon));
  name.remove_prefix(colon + 1);
  return absl::OkStatus();
}

// Whose name it is: what the options of the file begin with.
std::string PrefixOfFile(const std::map<std::string, std::string>& options) {
  const auto driver_of = [&options](const std::string& prefix) {
    const auto found = options.find(absl::StrCat(prefix, "driver"));
    return found == options.end() ? "" : found->second;
  };
  std::string prefix;
  if (!IsFileDriver(driver_of(prefix)) && driver_of(prefix) != kBlkdebugDriver) prefix = "file.";
  if (driver_of(prefix) == kBlkdebugDriver) absl::StrAppend(&prefix, "image.");
  if (FormatByName(driver_of(prefix)).has_value()) absl::StrAppend(&prefix, "file.");
  return prefix;
}

}  // namespace

absl::StatusOr<ImageSource> SourceOf(absl::string_view name, absl::string_view format) {
  if (ImageDescription::IsJson(name)) {
    ASSIGN_OR_RETURN(ImageDescription description, ImageDescription::FromJson(name));
    return SourceOf(std::move(description), format);
  }
  if (absl::StartsWith(name, "blkdebug:")) {
    ASSIGN_OR_RETURN(ImageDescription description, DescriptionOf(name, {}));
    return SourceOf(std::move(description), format);
  }
  ASSIGN_OR_RETURN(std::string path, LocalPath(name));
  if (IsFileDriver(format)) format = FormatName(ImageFormat::kRaw);
  return ImageSource{.path = std::move(path), .format = std::string(format)};
}

absl::StatusOr<ImageSource> SourceOf(ImageDescription description, absl::string_view format) {
  ImageSource source;
  source.format = description.Take("driver").value_or("");
  if (!format.empty()) source.format = std::string(format);
  if (IsFileDriver(source.format)) {
    source.format = std::string(FormatName(ImageFormat::kRaw));
    RETURN_IF_ERROR(TakeFileOptions(std::move(description), source));
    return source;
  }
  if (source.format == kBlkdebugDriver) return SourceOfBlkdebug(std::move(description));
  RETURN_IF_ERROR(TakeFileChild(description, source));
  RETURN_IF_ERROR(TakeNodeOptions(description, source));
  RETURN_IF_ERROR(TakeDiscard(description, source));
  RETURN_IF_ERROR(TakeDetectZeroes(description, !source.ignores_discards, source));
  source.options = std::move(description);
  return source;
}

absl::StatusOr<ImageDescription> DescriptionOf(absl::string_view name,
                                               std::map<std::string, std::string> options) {
  if (ImageDescription::IsJson(name)) {
    ASSIGN_OR_RETURN(const ImageDescription description, ImageDescription::FromJson(name));
    options.insert(description.options().begin(), description.options().end());
    return ImageDescription(std::move(options));
  }
  RETURN_IF_ERROR(TakeBlkdebugName(name, options));
  ASSIGN_OR_RETURN(options[absl::StrCat(PrefixOfFile(options), "filename")], LocalPath(name));
  return ImageDescription(std::move(options));
}

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
      if (!node->empty()) {
        return absl::NotFoundError(absl::StrFormat(
            "Could not open backing file: Cannot find device='%s' nor node-name='%s'", *node,
            *node));
      }
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
  if (options.options().empty()) return taken;
  return absl::InvalidArgumentError(
      absl::StrFormat("Block format '%s' does not support the option '%s'", FormatName(format),
                      options.options().begin()->first));
}

}  // namespace ringcow
