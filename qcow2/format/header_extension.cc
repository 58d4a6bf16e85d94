#include "qcow2/format/header_extension.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/invariant.h"
#include "engine/status_macros.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/limits.h"
#include "qcow2/format/units.h"

namespace ringcow {
namespace {

constexpr uint64_t kExtensionAlignment = 8;

struct ExtensionHeaderOnDisk {
  Be32 magic;
  Be32 length;  // of the payload, without the padding
};
static_assert(sizeof(ExtensionHeaderOnDisk) == 8);

constexpr size_t kFeatureNameBytes = 46;
struct FeatureNameOnDisk {
  uint8_t type;
  uint8_t bit;
  std::array<char, kFeatureNameBytes> name;  // padded with zeroes, no terminator when full
};
static_assert(sizeof(FeatureNameOnDisk) == 48);

std::vector<std::byte> BytesOf(std::span<const std::byte> payload) {
  return {payload.begin(), payload.end()};
}

std::string StringOf(std::span<const std::byte> payload) {
  return {reinterpret_cast<const char*>(payload.data()), payload.size()};
}

// Ends at the first entry without a name; a last entry that is cut short has zeroes behind it. The
// table only feeds messages, so that a strange one is no reason to refuse an image.
std::vector<FeatureName> ParseFeatureNames(std::span<const std::byte> payload) {
  std::vector<FeatureName> names;
  while (!payload.empty()) {
    FeatureNameOnDisk entry = {};
    const size_t bytes = std::min(payload.size(), sizeof(entry));
    std::memcpy(&entry, payload.data(), bytes);
    payload = payload.subspan(bytes);
    const auto name_end = std::find(entry.name.begin(), entry.name.end(), '\0');
    if (name_end == entry.name.begin()) break;
    if (entry.type > static_cast<uint8_t>(FeatureType::kAutoclear) || entry.bit > 63) continue;
    names.push_back({.type = static_cast<FeatureType>(entry.type),
                     .bit = entry.bit,
                     .name = std::string(entry.name.begin(), name_end)});
  }
  return names;
}

std::vector<std::byte> KnownFeatureNameTable() {
  std::vector<std::byte> table;
  for (const KnownFeature& feature : kKnownFeatures) {
    FeatureNameOnDisk entry = {
        .type = static_cast<uint8_t>(feature.type), .bit = feature.bit, .name = {}};
    std::copy(feature.name.begin(), feature.name.end(), entry.name.begin());
    const auto bytes = std::as_bytes(std::span(&entry, 1));
    table.insert(table.end(), bytes.begin(), bytes.end());
  }
  return table;
}

absl::Status TakeExtension(uint32_t magic, std::span<const std::byte> payload,
                           HeaderExtensions& extensions) {
  switch (magic) {
    case kExtensionBackingFormat:
      if (payload.size() > kMaxBackingFormatBytes) {
        return absl::InvalidArgumentError(
            absl::StrFormat("Backing format name too long: %d bytes, at most %d are allowed",
                            payload.size(), kMaxBackingFormatBytes));
      }
      extensions.backing_format = StringOf(payload);
      break;
    case kExtensionExternalDataFile:
      extensions.external_data_file = StringOf(payload);
      break;
    case kExtensionCryptoHeader:
      extensions.crypto_header = BytesOf(payload);
      break;
    case kExtensionBitmaps:
      extensions.bitmaps = BytesOf(payload);
      break;
    case kExtensionFeatureNameTable:
      extensions.feature_names = ParseFeatureNames(payload);
      break;
    default:
      extensions.unknown.push_back({.magic = magic, .payload = BytesOf(payload)});
  }
  return absl::OkStatus();
}

void AppendExtension(uint32_t magic, std::span<const std::byte> payload,
                     std::vector<std::byte>& out) {
  const ExtensionHeaderOnDisk header = {.magic = Be32(magic),
                                        .length = Be32(static_cast<uint32_t>(payload.size()))};
  const auto header_bytes = std::as_bytes(std::span(&header, 1));
  out.insert(out.end(), header_bytes.begin(), header_bytes.end());
  out.insert(out.end(), payload.begin(), payload.end());
  out.resize(out.size() + AlignUp(payload.size(), kExtensionAlignment) - payload.size());
}

absl::Status TooLarge() { return absl::InvalidArgumentError("Header extension too large"); }

}  // namespace

absl::StatusOr<HeaderExtensions> ParseHeaderExtensions(std::span<const std::byte> header_cluster,
                                                       uint64_t begin, uint64_t end) {
  HeaderExtensions extensions;
  uint64_t offset = begin;
  while (offset < std::min<uint64_t>(end, header_cluster.size())) {
    ExtensionHeaderOnDisk header;
    if (end - offset < sizeof(header) || header_cluster.size() - offset < sizeof(header)) {
      return TooLarge();
    }
    std::memcpy(&header, header_cluster.data() + offset, sizeof(header));
    if (header.magic.value() == kExtensionEnd) break;

    const uint64_t payload = offset + sizeof(header);
    const uint64_t length = header.length.value();
    if (length > end - payload) return TooLarge();
    if (length > header_cluster.size() - payload) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "Header extension at offset %#x lies beyond the end of the file", offset));
    }
    RETURN_IF_ERROR(
        TakeExtension(header.magic.value(), header_cluster.subspan(payload, length), extensions));
    offset = payload + AlignUp(length, kExtensionAlignment);
  }
  return extensions;
}

void AppendHeaderExtensions(const HeaderExtensions& extensions, bool with_feature_names,
                            std::vector<std::byte>& out) {
  if (extensions.backing_format.has_value()) {
    AppendExtension(kExtensionBackingFormat, std::as_bytes(std::span(*extensions.backing_format)),
                    out);
  }
  if (extensions.external_data_file.has_value()) {
    AppendExtension(kExtensionExternalDataFile,
                    std::as_bytes(std::span(*extensions.external_data_file)), out);
  }
  if (extensions.crypto_header.has_value()) {
    AppendExtension(kExtensionCryptoHeader, *extensions.crypto_header, out);
  }
  if (with_feature_names) {
    AppendExtension(kExtensionFeatureNameTable, KnownFeatureNameTable(), out);
  }
  if (extensions.bitmaps.has_value()) {
    AppendExtension(kExtensionBitmaps, *extensions.bitmaps, out);
  }
  for (const RawExtension& extension : extensions.unknown) {
    AppendExtension(extension.magic, extension.payload, out);
  }
  AppendExtension(kExtensionEnd, {}, out);
}

absl::Status CheckIncompatibleFeatures(uint64_t incompatible_features,
                                       std::span<const FeatureName> names) {
  uint64_t unknown = incompatible_features & ~kKnownIncompatibleFeatures;
  if (unknown == 0) return absl::OkStatus();
  std::vector<std::string> reasons;
  for (const FeatureName& feature : names) {
    const uint64_t bit = uint64_t{1} << feature.bit;
    if (feature.type != FeatureType::kIncompatible || (unknown & bit) == 0) continue;
    reasons.push_back(feature.name);
    unknown &= ~bit;
  }
  if (unknown != 0) reasons.push_back(absl::StrFormat("Unknown incompatible feature: %x", unknown));
  return absl::UnimplementedError(
      absl::StrFormat("Unsupported qcow2 feature(s): %s", absl::StrJoin(reasons, ", ")));
}

}  // namespace ringcow
