#include "qcow2/image_description.h"

#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "nlohmann/json.hpp"
#include "qcow2/parse_size.h"

namespace ringcow {
namespace {

// Nobody's options are nested deeper; it bounds the recursion.
constexpr int kMaxJsonDepth = 500;

// QEMU takes text in single quotes too. The same object with double quotes only.
std::string WithDoubleQuotes(absl::string_view json) {
  std::string out;
  out.reserve(json.size());
  char quote = '\0';
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (c == '\\' && quote != '\0' && i + 1 < json.size()) {
      // JSON knows no escaped single quote.
      if (json[++i] != '\'') out += c;
      out += json[i];
    } else if (c == quote || (quote == '\0' && (c == '\'' || c == '"'))) {
      quote = quote == '\0' ? c : '\0';
      out += '"';
    } else {
      if (c == '"') out += '\\';
      out += c;
    }
  }
  return out;
}

std::string TextOf(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "on" : "off";
  if (value.is_null()) return "";
  return value.dump();
}

absl::Status Flatten(const nlohmann::json& value, const std::string& name, int depth,
                     std::map<std::string, std::string>& options) {
  if (!value.is_structured()) {
    options[name] = TextOf(value);
    return absl::OkStatus();
  }
  if (depth > kMaxJsonDepth) {
    return absl::InvalidArgumentError("The JSON options are nested too deep");
  }
  for (const auto& [key, member] : value.items()) {
    RETURN_IF_ERROR(
        Flatten(member, name.empty() ? key : absl::StrCat(name, ".", key), depth + 1, options));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ImageDescription> ImageDescription::FromJson(absl::string_view name) {
  name.remove_prefix(absl::string_view("json:").size());
  const nlohmann::json json =
      nlohmann::json::parse(WithDoubleQuotes(name), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    return absl::InvalidArgumentError("Could not parse the JSON options");
  }
  if (!json.is_object()) return absl::InvalidArgumentError("Invalid JSON object given");
  std::map<std::string, std::string> options;
  RETURN_IF_ERROR(Flatten(json, "", 0, options));
  return ImageDescription(std::move(options));
}

std::optional<std::string> ImageDescription::Take(const std::string& option) {
  const auto found = options_.find(option);
  if (found == options_.end()) return std::nullopt;
  std::string value = std::move(found->second);
  options_.erase(found);
  return value;
}

absl::StatusOr<std::optional<bool>> ImageDescription::TakeFlag(const std::string& option) {
  const std::optional<std::string> value = Take(option);
  if (!value.has_value()) return std::nullopt;
  for (const char* yes : {"on", "yes", "true", "y"}) {
    if (*value == yes) return true;
  }
  for (const char* no : {"off", "no", "false", "n"}) {
    if (*value == no) return false;
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("Parameter '%s' expects 'on' or 'off'", option));
}

absl::StatusOr<std::optional<uint64_t>> ImageDescription::TakeBytes(const std::string& option) {
  const std::optional<std::string> value = Take(option);
  if (!value.has_value()) return std::nullopt;
  const absl::StatusOr<uint64_t> bytes = ParseSize(*value);
  if (bytes.ok()) return *bytes;
  if (absl::IsOutOfRange(bytes.status())) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Value '%s' is out of range for parameter '%s'", *value, option));
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("Parameter '%s' expects a non-negative number below 2^64\n"
                      "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                      "and exabytes, respectively.",
                      option));
}

std::optional<ImageDescription> ImageDescription::TakeChild(const std::string& child) {
  const std::string prefix = absl::StrCat(child, ".");
  std::map<std::string, std::string> options;
  for (auto at = options_.lower_bound(prefix);
       at != options_.end() && absl::StartsWith(at->first, prefix); at = options_.erase(at)) {
    options[at->first.substr(prefix.size())] = std::move(at->second);
  }
  if (options.empty()) return std::nullopt;
  ImageDescription description(std::move(options));
  description.depth_ = depth_ + 1;
  return description;
}

absl::Status ImageDescription::CheckDepth() const {
  if (depth_ <= kMaxDepth) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("Drivers are nested more than %d deep", kMaxDepth));
}

}  // namespace ringcow
