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

// The words are qemu-img's: scripts look at them.
constexpr const char* kSizeHelp = "Virtual disk size";
constexpr const char* kNocowHelp = "Turn off copy-on-write (valid only on btrfs)";
constexpr const char* kExtentSizeHintHelp = "Extent size hint for the image file, 0 to disable";

constexpr CreateOptionSpec kQcow2Specs[] = {
    {.name = "encryption",
     .kind = Kind::kFlag,
     .help = "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
     .lacking = true},
    {.name = "encrypt.format",
     .help = "Encrypt the image, format choices: 'aes', 'luks'",
     .lacking = true},
    {.name = "encrypt.key-secret",
     .help = "ID of secret providing qcow AES key or LUKS passphrase",
     .lacking = true},
    {.name = "encrypt.cipher-alg", .help = "Name of encryption cipher algorithm", .lacking = true},
    {.name = "encrypt.cipher-mode", .help = "Name of encryption cipher mode", .lacking = true},
    {.name = "encrypt.ivgen-alg", .help = "Name of IV generator algorithm", .lacking = true},
    {.name = "encrypt.ivgen-hash-alg",
     .help = "Name of IV generator hash algorithm",
     .lacking = true},
    {.name = "encrypt.hash-alg", .help = "Name of encryption hash algorithm", .lacking = true},
    {.name = "encrypt.iter-time",
     .kind = Kind::kNumber,
     .help = "Time to spend in PBKDF in milliseconds",
     .lacking = true},
    {.name = "cluster_size",
     .kind = Kind::kSize,
     .help = "qcow2 cluster size",
     .default_value = "65536"},
    {.name = "extended_l2",
     .kind = Kind::kFlag,
     .help = "Extended L2 tables",
     .default_value = "off"},
    {.name = "preallocation",
     .help = "Preallocation mode (allowed values: off, metadata, falloc, full)"},
    {.name = "compression_type",
     .help = "Compression method used for image cluster compression",
     .default_value = "zlib"},
    {.name = "size", .kind = Kind::kSize, .help = kSizeHelp},
    {.name = "compat", .help = "Compatibility level (v2 [0.10] or v3 [1.1])"},
    {.name = "backing_file", .help = "File name of a base image"},
    {.name = "backing_fmt", .help = "Image format of the base image"},
    {.name = "data_file", .help = "File name of an external data file"},
    {.name = "data_file_raw",
     .kind = Kind::kFlag,
     .help = "The external data file must stay valid as a raw image"},
    {.name = "lazy_refcounts",
     .kind = Kind::kFlag,
     .help = "Postpone refcount updates",
     .default_value = "off"},
    {.name = "refcount_bits",
     .kind = Kind::kNumber,
     .help = "Width of a reference count entry in bits",
     .default_value = "16"},
    {.name = "nocow", .kind = Kind::kFlag, .help = kNocowHelp, .of_file = true},
    {.name = "extent_size_hint", .kind = Kind::kSize, .help = kExtentSizeHintHelp, .of_file = true},
};

constexpr CreateOptionSpec kRawSpecs[] = {
    {.name = "size", .kind = Kind::kSize, .help = kSizeHelp},
    {.name = "nocow", .kind = Kind::kFlag, .help = kNocowHelp, .of_file = true},
    {.name = "preallocation",
     .help = "Preallocation mode (allowed values: off, falloc, full)",
     .of_file = true},
    {.name = "extent_size_hint", .kind = Kind::kSize, .help = kExtentSizeHintHelp, .of_file = true},
};

// What `amend -o` knows beside options of creation.
constexpr CreateOptionSpec kKeyslotSpecs[] = {
    {.name = "encrypt.keyslot",
     .kind = Kind::kNumber,
     .help = "Select a single keyslot to modify explicitly"},
    {.name = "encrypt.new-secret",
     .help = "New secret to set in the matching keyslots. Empty string to erase"},
    {.name = "encrypt.old-secret", .help = "Select all keyslots that match this password"},
    {.name = "encrypt.state", .help = "Select new state of affected keyslots (active/inactive)"},
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
  return absl::UnimplementedError(
      absl::StrFormat("Option '%s%s' is not supported: no image is encrypted here", spec.name,
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

std::span<const CreateOptionSpec> KeyslotOptionSpecs() { return kKeyslotSpecs; }

std::string DescribeOptions(std::vector<CreateOptionSpec> specs) {
  std::sort(specs.begin(), specs.end(), [](const CreateOptionSpec& a, const CreateOptionSpec& b) {
    return absl::string_view(a.name) < b.name;
  });
  std::string text;
  for (const CreateOptionSpec& spec : specs) {
    constexpr absl::string_view kPlaceholders[] = {"<str>", "<bool (on/off)>", "<size>", "<num>"};
    absl::StrAppendFormat(
        &text, "  %-22s - %s\n",
        absl::StrCat(spec.name, "=", kPlaceholders[static_cast<size_t>(spec.kind)]), spec.help);
  }
  return text;
}

std::string DescribeCreateOptions(ImageFormat format, bool has_file) {
  const std::span<const CreateOptionSpec> all = CreateOptionSpecs(format);
  std::vector<CreateOptionSpec> specs(all.begin(), all.end());
  if (has_file) return absl::StrCat("Supported options:\n", DescribeOptions(std::move(specs)));
  std::erase_if(specs, [](const CreateOptionSpec& spec) { return spec.of_file; });
  return absl::StrCat("Supported ", FormatName(format), " options:\n",
                      DescribeOptions(std::move(specs)),
                      "\nThe protocol level may support further options.\n"
                      "Specify the target filename to include those options.\n");
}

}  // namespace ringcow
