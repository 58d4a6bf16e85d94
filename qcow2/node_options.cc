#include "qcow2/node_options.h"

#include <optional>

#include "absl/strings/str_format.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

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

}  // namespace

absl::Status NotYet(absl::string_view option) {
  return absl::UnimplementedError(absl::StrFormat("The option '%s' is not supported yet", option));
}

absl::Status NoSuchNode(const std::string& node) {
  return absl::NotFoundError(
      absl::StrFormat("Cannot find device='%s' nor node-name='%s'", node, node));
}

absl::Status TakeOneOf(ImageDescription& options, const std::string& name,
                       std::initializer_list<absl::string_view> values) {
  const std::optional<std::string> value = options.Take(name);
  if (!value.has_value()) return absl::OkStatus();
  for (const absl::string_view possible : values) {
    if (*value == possible) return absl::OkStatus();
  }
  return NotYet(absl::StrFormat("%s=%s", name, *value));
}

absl::Status TakeNodeOptions(ImageDescription& options, ImageSource& source) {
  options.Take("node-name");  // nothing can refer to it
  ASSIGN_OR_RETURN(const std::optional<bool> read_only, options.TakeFlag("read-only"));
  source.read_only |= read_only.value_or(false);
  ASSIGN_OR_RETURN(const std::optional<bool> force_share, options.TakeFlag("force-share"));
  source.force_share |= force_share.value_or(false);
  ASSIGN_OR_RETURN(const std::optional<bool> direct, options.TakeFlag("cache.direct"));
  if (direct.has_value()) source.direct = direct;
  for (const char* flag : {"cache.no-flush", "auto-read-only"}) {
    ASSIGN_OR_RETURN(const std::optional<bool> value, options.TakeFlag(flag));
    if (value.value_or(false)) return NotYet(absl::StrFormat("%s=on", flag));
  }
  return absl::OkStatus();
}

absl::Status TakeGuestOptions(ImageDescription& options, ImageSource& source) {
  RETURN_IF_ERROR(TakeDiscard(options, source));
  return TakeDetectZeroes(options, !source.ignores_discards, source);
}

absl::StatusOr<ImageDescription> TakeNeededChild(ImageDescription& options,
                                                 const std::string& name) {
  RETURN_IF_ERROR(options.CheckDepth());
  if (const std::optional<std::string> node = options.Take(name)) return NoSuchNode(*node);
  std::optional<ImageDescription> child = options.TakeChild(name);
  if (child.has_value()) return *std::move(child);
  return absl::InvalidArgumentError(
      absl::StrFormat("A block device must be specified for \"%s\"", name));
}

absl::Status CheckNothingIsLeft(const ImageDescription& options, absl::string_view driver) {
  if (options.options().empty()) return absl::OkStatus();
  const std::string& option = options.options().begin()->first;
  if (!IsProtocol(driver)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Block format '%s' does not support the option '%s'", driver, option));
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("Block protocol '%s' doesn't support the option '%s'", driver, option));
}

}  // namespace ringcow
