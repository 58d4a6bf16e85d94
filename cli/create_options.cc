#include "cli/create_options.h"

#include <algorithm>
#include <cstddef>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "cli/sizes.h"
#include "engine/invariant.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

using Kind = CreateOptionSpec::Kind;

constexpr CreateOptionSpec kQcow2Specs[] = {
    {"encryption", Kind::kFlag, nullptr, nullptr, true},
    {"encrypt.format", Kind::kText, nullptr, nullptr, true},
    {"encrypt.key-secret", Kind::kText, nullptr, nullptr, true},
    {"encrypt.cipher-alg", Kind::kText, nullptr, nullptr, true},
    {"encrypt.cipher-mode", Kind::kText, nullptr, nullptr, true},
    {"encrypt.ivgen-alg", Kind::kText, nullptr, nullptr, true},
    {"encrypt.ivgen-hash-alg", Kind::kText, nullptr, nullptr, true},
    {"encrypt.hash-alg", Kind::kText, nullptr, nullptr, true},
    {"encrypt.iter-time", Kind::kNumber, nullptr, nullptr, true},
    {"cluster_size", Kind::kSize, "bytes of a cluster, 512 to 2M", "65536"},
    {"extended_l2", Kind::kFlag, "L2 entries with subclusters", "off"},
    {"preallocation", Kind::kText, "off, metadata, falloc or full"},
    {"compression_type", Kind::kText, "of compressed clusters: zlib or zstd", "zlib"},
    {"size", Kind::kSize, "bytes of the virtual disk"},
    {"compat", Kind::kText, "the format's version: 1.1 (v3) or 0.10 (v2)"},
    {"backing_file", Kind::kText, "name of the backing file, as the image will have it"},
    {"backing_fmt", Kind::kText, "format of the backing file: qcow2 or raw"},
    {"data_file", Kind::kText, "name of the external data file, which is made too"},
    {"data_file_raw", Kind::kFlag, "that file is to be a raw image by itself"},
    {"lazy_refcounts", Kind::kFlag, "write refcounts late and repair after a crash", "off"},
    {"refcount_bits", Kind::kNumber, "bits of a refcount, 1 to 64", "16"},
    {"nocow", Kind::kFlag, nullptr, nullptr, true},
    {"extent_size_hint", Kind::kSize, nullptr, nullptr, true},
};

constexpr CreateOptionSpec kRawSpecs[] = {
    {"size", Kind::kSize, "bytes of the image"},
    {"nocow", Kind::kFlag, nullptr, nullptr, true},
    {"preallocation", Kind::kText, "off, falloc or full"},
    {"extent_size_hint", Kind::kSize, nullptr, nullptr, true},
};

absl::StatusOr<bool> ParseFlag(absl::string_view name, absl::string_view text) {
  if (text == "on" || text == "yes" || text == "true" || text == "y") return true;
  if (text == "off" || text == "no" || text == "false" || text == "n") return false;
  return absl::InvalidArgumentError(absl::StrFormat("Parameter '%s' expects 'on' or 'off'", name));
}

absl::StatusOr<uint64_t> ParseSizeOption(absl::string_view name, absl::string_view text) {
  absl::StatusOr<uint64_t> value = ParseSize(text);
  if (absl::IsOutOfRange(value.status())) {
    return absl::OutOfRangeError(
        absl::StrFormat("Value '%s' is out of range for parameter '%s'", text, name));
  }
  if (!value.ok()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "Parameter '%s' expects a non-negative number below 2^64\n"
        "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
        "and exabytes, respectively.",
        name));
  }
  return value;
}

absl::StatusOr<uint64_t> ParseNumberOption(absl::string_view name, absl::string_view text) {
  absl::StatusOr<uint64_t> value = ParseNumber(text);
  if (absl::IsOutOfRange(value.status())) {
    return absl::OutOfRangeError(
        absl::StrFormat("Value '%s' is too large for parameter '%s'", text, name));
  }
  if (!value.ok()) {
    return absl::InvalidArgumentError(absl::StrFormat("Parameter '%s' expects a number", name));
  }
  return value;
}

absl::StatusOr<uint64_t> ParseValue(const CreateOptionSpec& spec, absl::string_view text) {
  switch (spec.kind) {
    case Kind::kText:
      return uint64_t{0};
    case Kind::kFlag: {
      ASSIGN_OR_RETURN(const bool flag, ParseFlag(spec.name, text));
      return static_cast<uint64_t>(flag);
    }
    case Kind::kSize:
      return ParseSizeOption(spec.name, text);
    case Kind::kNumber:
      return ParseNumberOption(spec.name, text);
  }
  return uint64_t{0};
}

absl::Status CheckIsImplemented(const CreateOptionSpec& spec, uint64_t value) {
  if (!spec.lacking || (spec.kind == Kind::kFlag && value == 0)) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrFormat("Option '%s%s' is not supported yet", spec.name,
                                                  spec.kind == Kind::kFlag ? "=on" : ""));
}

}  // namespace

std::span<const CreateOptionSpec> CreateOptionSpecs(ImageFormat format) {
  if (format == ImageFormat::kQcow2) return kQcow2Specs;
  return kRawSpecs;
}

CreateOptionValues::CreateOptionValues(ImageFormat format)
    : specs_(CreateOptionSpecs(format)), values_(specs_.size()) {
  for (const CreateOptionSpec& spec : specs_) {
    if (spec.default_value == nullptr) continue;
    const absl::Status set = Set({spec.name, spec.default_value});
    RINGCOW_INVARIANT(set.ok(), "a default is a value");
  }
}

const CreateOptionSpec* CreateOptionValues::Find(absl::string_view name) const {
  const auto found =
      std::find_if(specs_.begin(), specs_.end(),
                   [name](const CreateOptionSpec& spec) { return name == spec.name; });
  return found == specs_.end() ? nullptr : &*found;
}

absl::Status CreateOptionValues::Set(const NamedValue& option) {
  const CreateOptionSpec* spec = Find(option.name);
  std::string text = option.value.value_or("on");
  if (spec == nullptr && !option.value.has_value() && absl::StartsWith(option.name, "no")) {
    spec = Find(absl::StripPrefix(option.name, "no"));
    text = "off";
  }
  if (spec == nullptr) {
    return absl::InvalidArgumentError(absl::StrFormat("Invalid parameter '%s'", option.name));
  }
  ASSIGN_OR_RETURN(const uint64_t number, ParseValue(*spec, text));
  RETURN_IF_ERROR(CheckIsImplemented(*spec, number));
  values_[static_cast<size_t>(spec - specs_.data())] = Value{.text = text, .number = number};
  return absl::OkStatus();
}

const CreateOptionValues::Value& CreateOptionValues::ValueOf(absl::string_view name) const {
  const CreateOptionSpec* spec = Find(name);
  RINGCOW_INVARIANT(spec != nullptr, "the format has this option");
  const std::optional<Value>& value = values_[static_cast<size_t>(spec - specs_.data())];
  RINGCOW_INVARIANT(value.has_value(), "the option has a value");
  return *value;
}

bool CreateOptionValues::Has(absl::string_view name) const {
  const CreateOptionSpec* spec = Find(name);
  return spec != nullptr && values_[static_cast<size_t>(spec - specs_.data())].has_value();
}

const std::string& CreateOptionValues::Text(absl::string_view name) const {
  return ValueOf(name).text;
}

uint64_t CreateOptionValues::Number(absl::string_view name) const { return ValueOf(name).number; }

std::string CreateOptionValues::Describe() const {
  std::vector<std::string> shown;
  for (size_t i = 0; i < specs_.size(); ++i) {
    const std::optional<Value>& value = values_[i];
    if (!value.has_value()) continue;
    const bool as_number = specs_[i].kind == Kind::kSize || specs_[i].kind == Kind::kNumber;
    // Signed, as qemu-img shows them: "refcount_bits=-1" is refused, but in these words.
    shown.push_back(absl::StrCat(specs_[i].name, "=",
                                 as_number ? absl::StrCat(static_cast<int64_t>(value->number))
                                           : EscapeOptionValue(value->text)));
  }
  return absl::StrJoin(shown, " ");
}

std::string DescribeCreateOptions(ImageFormat format) {
  std::string text = absl::StrFormat("Supported %s options:\n", FormatName(format));
  for (const CreateOptionSpec& spec : CreateOptionSpecs(format)) {
    if (spec.help == nullptr) continue;
    constexpr absl::string_view kPlaceholders[] = {"<str>", "<bool (on/off)>", "<size>", "<num>"};
    absl::StrAppendFormat(
        &text, "  %-22s - %s\n",
        absl::StrCat(spec.name, "=", kPlaceholders[static_cast<size_t>(spec.kind)]), spec.help);
  }
  return text;
}

}  // namespace ringcow
