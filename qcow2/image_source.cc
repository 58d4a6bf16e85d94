#include "qcow2/image_source.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "engine/status_macros.h"
#include "qcow2/backing_name.h"
#include "qcow2/foreign.h"
#include "qcow2/format/image_format.h"
#include "qcow2/node_options.h"
#include "qcow2/quorum_disk.h"

namespace ringcow {
namespace {

constexpr absl::string_view kBlkdebug = "blkdebug";
constexpr absl::string_view kPreallocate = "preallocate";
constexpr absl::string_view kCopyOnRead = "copy-on-read";
constexpr absl::string_view kCompress = "compress";
constexpr absl::string_view kQuorum = "quorum";

bool IsFileDriver(absl::string_view driver) {
  return driver == "file" || driver == "host_device" || driver == "host_cdrom";
}
bool IsVoidDriver(absl::string_view driver) { return driver == "null-co" || driver == "null-aio"; }
bool IsFormat(absl::string_view driver) { return FormatByName(driver).has_value(); }
// What only lies on images.
bool IsGuestDriver(absl::string_view driver) {
  return driver == kCopyOnRead || driver == kCompress;
}
// What bytes come from, without a format.
bool IsDiskDriver(absl::string_view driver) {
  return IsFileDriver(driver) || IsVoidDriver(driver) || driver == kBlkdebug ||
         driver == kPreallocate || driver == kQuorum;
}

using Options = std::map<std::string, std::string>;

std::string DriverOf(const Options& options, const std::string& prefix) {
  const auto found = options.find(absl::StrCat(prefix, "driver"));
  return found == options.end() ? "" : found->second;
}

// Whether what lies below is an image, and not what an image could be in.
bool LiesOnImage(const Options& options, absl::string_view driver) {
  std::string prefix;
  std::string below(driver);
  while (below == kBlkdebug || below == kPreallocate) {
    absl::StrAppend(&prefix, ChildOf(below), ".");
    below = DriverOf(options, prefix);
  }
  return IsFormat(below) || IsGuestDriver(below);
}

absl::StatusOr<ImageSource> SourceOfDriver(const std::string& driver, ImageDescription description);

absl::Status TakeLocking(ImageDescription& options, ImageSource& source) {
  const std::string value = options.Take("locking").value_or("auto");
  source.unlocked = value == "off";
  if (value == "auto" || value == "on" || value == "off") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("invalid parameter value: %s", value));
}

absl::Status TakeFile(const std::string& driver, ImageDescription options, ImageSource& source) {
  const std::optional<std::string> path = options.Take("filename");
  if (!path.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("The '%s' block driver requires a file name", driver));
  }
  source.path = *path;
  RETURN_IF_ERROR(TakeNodeOptions(options, source));
  RETURN_IF_ERROR(TakeOneOf(options, "detect-zeroes", {"off"}));
  RETURN_IF_ERROR(TakeOneOf(options, "discard", {"unmap", "on"}));
  RETURN_IF_ERROR(TakeLocking(options, source));
  // Names only: all I/O goes through io_uring.
  RETURN_IF_ERROR(TakeOneOf(options, "aio", {"threads", "native", "io_uring"}));
  return CheckNothingIsLeft(options, driver);
}

absl::Status TakeVoid(const std::string& driver, ImageDescription options, ImageSource& source) {
  source.bottom = driver;
  ASSIGN_OR_RETURN(source.nowhere, TakeVoidDiskOptions(options));
  RETURN_IF_ERROR(TakeNodeOptions(options, source));
  RETURN_IF_ERROR(TakeOneOf(options, "detect-zeroes", {"off"}));
  RETURN_IF_ERROR(TakeOneOf(options, "discard", {"unmap", "on"}));
  return CheckNothingIsLeft(options, driver);
}

bool HasChild(const Options& options, const std::string& name) {
  const auto found = options.lower_bound(name);
  return found != options.end() &&
         (found->first == name || absl::StartsWith(found->first, absl::StrCat(name, ".")));
}

absl::Status TakeQuorum(ImageDescription options, ImageSource& source) {
  source.bottom = std::string(kQuorum);
  QuorumSource& quorum = source.quorum.emplace();
  for (std::string name = "children.0"; HasChild(options.options(), name);
       name = absl::StrCat("children.", quorum.children.size())) {
    ASSIGN_OR_RETURN(ImageDescription description, TakeNeededChild(options, name));
    auto child = std::make_shared<ImageSource>();
    RETURN_IF_ERROR(TakeProtocol(std::move(description), *child));
    quorum.children.push_back(std::move(child));
  }
  ASSIGN_OR_RETURN(quorum.threshold, TakeVoteThreshold(options, quorum.children.size()));
  RETURN_IF_ERROR(TakeNodeOptions(options, source));
  RETURN_IF_ERROR(TakeOneOf(options, "detect-zeroes", {"off"}));
  RETURN_IF_ERROR(TakeOneOf(options, "discard", {"unmap", "on"}));
  return CheckNothingIsLeft(options, kQuorum);
}

absl::StatusOr<DiskDriver> TakeDecoratorOptions(const std::string& driver,
                                                ImageDescription& options) {
  if (driver == kBlkdebug) return TakeBlkdebugOptions(options);
  return TakePreallocationOptions(options);
}

// A driver that lies on another one.
absl::Status TakeDecorator(const std::string& driver, ImageDescription options,
                           ImageSource& source) {
  ASSIGN_OR_RETURN(DiskDriver decorator, TakeDecoratorOptions(driver, options));
  RETURN_IF_ERROR(TakeNodeOptions(options, source));
  ASSIGN_OR_RETURN(ImageDescription child, TakeNeededChild(options, ChildOf(driver)));
  RETURN_IF_ERROR(CheckNothingIsLeft(options, driver));
  RETURN_IF_ERROR(TakeProtocol(std::move(child), source));
  source.below.push_back(std::move(decorator));
  return absl::OkStatus();
}

// A raw image that is all of what it lies in changes nothing on the way.
bool IsTransparent(absl::string_view driver, const Options& options) {
  if (driver != FormatName(ImageFormat::kRaw)) return false;
  for (const char* change : {"offset", "size", "discard", "detect-zeroes"}) {
    if (options.contains(change)) return false;
  }
  return true;
}

absl::Status TakeTransparent(ImageDescription options, ImageSource& source) {
  ASSIGN_OR_RETURN(ImageDescription child, TakeNeededChild(options, "file"));
  RETURN_IF_ERROR(TakeNodeOptions(options, source));
  RETURN_IF_ERROR(CheckNothingIsLeft(options, FormatName(ImageFormat::kRaw)));
  return TakeProtocol(std::move(child), source);
}

absl::Status TakeDriver(const std::string& driver, ImageDescription options, ImageSource& source) {
  if (IsFileDriver(driver)) {
    source.bottom = driver;
    return TakeFile(driver, std::move(options), source);
  }
  if (IsVoidDriver(driver)) return TakeVoid(driver, std::move(options), source);
  if (driver == kQuorum) return TakeQuorum(std::move(options), source);
  if (IsDiskDriver(driver)) return TakeDecorator(driver, std::move(options), source);
  if (IsTransparent(driver, options.options())) return TakeTransparent(std::move(options), source);
  if (IsFormat(driver) || IsGuestDriver(driver)) {
    ASSIGN_OR_RETURN(ImageSource image, SourceOfDriver(driver, std::move(options)));
    source.image = std::make_shared<const ImageSource>(std::move(image));
    return absl::OkStatus();
  }
  return UnknownDriver(driver);
}

absl::StatusOr<GuestDriver> TakeGuestDriverOptions(const std::string& driver,
                                                   ImageDescription& options) {
  if (driver == kBlkdebug) return TakeBlkdebugOptions(options);
  if (driver == kCompress) return CompressDriver();
  if (options.Take("bottom").has_value()) return NotYet("bottom");
  return CopyOnReadDriver();
}

// A driver that lies on an image.
absl::StatusOr<ImageSource> SourceBelow(const std::string& driver, ImageDescription options) {
  ImageSource own;
  ASSIGN_OR_RETURN(GuestDriver guest_driver, TakeGuestDriverOptions(driver, options));
  RETURN_IF_ERROR(TakeNodeOptions(options, own));
  RETURN_IF_ERROR(TakeGuestOptions(options, own));
  ASSIGN_OR_RETURN(ImageDescription child, TakeNeededChild(options, ChildOf(driver)));
  RETURN_IF_ERROR(CheckNothingIsLeft(options, driver));
  // A file, and nothing said of what is in it.
  if (!child.options().contains("driver")) {
    if (std::optional<std::string> path = child.Take("filename")) child.Put("file.filename", *path);
  }
  ASSIGN_OR_RETURN(ImageSource source, SourceOf(std::move(child), ""));
  source.above.push_back(std::move(guest_driver));
  source.driver = driver;
  source.read_only |= own.read_only;
  source.force_share |= own.force_share;
  source.ignores_discards |= own.ignores_discards;
  if (own.detect_zeroes != DetectZeroes::kOff) source.detect_zeroes = own.detect_zeroes;
  return source;
}

absl::Status TakeFileChild(ImageDescription& description, ImageSource& source) {
  const Options& options = description.options();
  const auto below = options.lower_bound("file.");
  const bool has_below = below != options.end() && absl::StartsWith(below->first, "file.");
  if (source.format.empty() && !has_below && !options.contains("file")) {
    return absl::InvalidArgumentError("Must specify either driver or file");
  }
  ASSIGN_OR_RETURN(ImageDescription file, TakeNeededChild(description, "file"));
  return TakeProtocol(std::move(file), source);
}

absl::StatusOr<ImageSource> SourceOfDriver(const std::string& driver,
                                           ImageDescription description) {
  if (IsGuestDriver(driver) ||
      (driver == kBlkdebug && LiesOnImage(description.options(), driver))) {
    return SourceBelow(driver, std::move(description));
  }
  ImageSource source;
  if (IsDiskDriver(driver)) {
    source.format = std::string(FormatName(ImageFormat::kRaw));
    source.driver = driver;
    source.has_no_format = true;
    RETURN_IF_ERROR(TakeGuestOptions(description, source));
    RETURN_IF_ERROR(TakeDriver(driver, std::move(description), source));
    return source;
  }
  // Before its options, which nobody knows.
  if (!driver.empty() && !IsFormat(driver)) return UnknownDriver(driver);
  source.format = driver;
  RETURN_IF_ERROR(TakeFileChild(description, source));
  RETURN_IF_ERROR(TakeNodeOptions(description, source));
  RETURN_IF_ERROR(TakeGuestOptions(description, source));
  for (const char* name : {"offset", "size"}) {
    const auto found = description.options().find(name);
    if (found != description.options().end()) source.distinctions.insert(*found);
  }
  source.options = std::move(description);
  return source;
}

// Takes "blkdebug:CONFIG:" off `name`, and puts it into the options.
absl::Status TakeBlkdebugName(absl::string_view& name, Options& options) {
  if (!absl::ConsumePrefix(&name, "blkdebug:")) return absl::OkStatus();
  const size_t colon = name.find(':');
  if (colon == absl::string_view::npos) {
    return absl::InvalidArgumentError("blkdebug requires both config file and image path");
  }
  const bool is_top = options["driver"] == kBlkdebug;
  if (options["driver"].empty()) options.erase("driver");
  const std::string prefix = is_top ? "" : "file.";
  options.emplace(absl::StrCat(prefix, "driver"), kBlkdebug);
  if (colon > 0) options.emplace(absl::StrCat(prefix, "config"), name.substr(0, colon));
  name.remove_prefix(colon + 1);
  return absl::OkStatus();
}

// "null-co://", which is all of a name that these drivers have.
bool IsVoidName(absl::string_view name) { return name == "null-co://" || name == "null-aio://"; }

void PutVoidName(absl::string_view name, Options& options) {
  const std::string prefix = IsVoidDriver(DriverOf(options, "")) ? "" : "file.";
  options.emplace(absl::StrCat(prefix, "driver"), absl::StripSuffix(name, "://"));
}

// Whose name it is: what the options of the file begin with.
std::string PrefixOfFile(const Options& options) {
  std::string prefix;
  while (true) {
    const std::string driver = DriverOf(options, prefix);
    const bool is_file = driver.empty() ? !prefix.empty() : IsFileDriver(driver);
    if (is_file || IsVoidDriver(driver)) return prefix;
    absl::StrAppend(&prefix, ChildOf(driver), ".");
  }
}

}  // namespace

std::string ChildOf(absl::string_view driver) { return driver == kBlkdebug ? "image" : "file"; }

bool IsProtocol(absl::string_view driver) {
  return IsDiskDriver(driver) && driver != kPreallocate && driver != kQuorum;
}

absl::StatusOr<ImageSource> SourceOf(absl::string_view name, absl::string_view format) {
  if (ImageDescription::IsJson(name)) {
    ASSIGN_OR_RETURN(ImageDescription description, ImageDescription::FromJson(name));
    return SourceOf(std::move(description), format);
  }
  const bool has_driver = IsVoidDriver(format) || IsGuestDriver(format) || format == kPreallocate;
  if (has_driver || IsVoidName(name) || absl::StartsWith(name, "blkdebug:")) {
    Options options;
    if (has_driver) options["driver"] = std::string(format);
    ASSIGN_OR_RETURN(ImageDescription description, DescriptionOf(name, std::move(options)));
    return SourceOf(std::move(description), format);
  }
  ASSIGN_OR_RETURN(std::string path, LocalPath(name));
  ImageSource source;
  source.path = std::move(path);
  source.format = std::string(format);
  if (absl::StartsWith(name, "file:")) source.bottom = "file";
  if (!IsFileDriver(format)) return source;
  source.driver = source.format;
  source.bottom = source.format;
  source.has_no_format = true;
  source.format = std::string(FormatName(ImageFormat::kRaw));
  return source;
}

absl::StatusOr<ImageSource> SourceOf(ImageDescription description, absl::string_view format) {
  std::string driver = description.Take("driver").value_or("");
  if (!format.empty()) driver = std::string(format);
  return SourceOfDriver(driver, std::move(description));
}

bool ImageSource::copies_on_read() const {
  return std::ranges::any_of(above, [](const GuestDriver& driver) {
    return std::holds_alternative<CopyOnReadDriver>(driver);
  });
}

std::string NameOf(const ImageSource& source) {
  if (source.nowhere.has_value()) return "null";
  if (source.quorum.has_value()) return std::string(kQuorum);
  if (source.image == nullptr) return source.path;
  const std::string& format = source.image->format;
  return absl::StrCat(format.empty() ? "image" : format, ":", NameOf(*source.image));
}

absl::Status TakeProtocol(ImageDescription options, ImageSource& source) {
  const std::optional<std::string> driver = options.Take("driver");
  if (!driver.has_value()) return TakeFile("file", std::move(options), source);
  return TakeDriver(*driver, std::move(options), source);
}

absl::StatusOr<ImageDescription> DescriptionOf(absl::string_view name, Options options) {
  if (ImageDescription::IsJson(name)) {
    ASSIGN_OR_RETURN(const ImageDescription description, ImageDescription::FromJson(name));
    options.insert(description.options().begin(), description.options().end());
    return ImageDescription(std::move(options));
  }
  if (IsVoidName(name)) {
    PutVoidName(name, options);
    return ImageDescription(std::move(options));
  }
  RETURN_IF_ERROR(TakeBlkdebugName(name, options));
  const std::string prefix = PrefixOfFile(options);
  ASSIGN_OR_RETURN(options[absl::StrCat(prefix, "filename")], LocalPath(name));
  return ImageDescription(std::move(options));
}

}  // namespace ringcow
