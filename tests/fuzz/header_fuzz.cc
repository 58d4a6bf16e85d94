#include <algorithm>
#include <optional>
#include <vector>

#include "qcow2/format/bitmap_directory.h"
#include "qcow2/format/extension_place.h"
#include "qcow2/format/header.h"
#include "qcow2/format/header_extension.h"
#include "qcow2/format/header_layout.h"
#include "qcow2/format/unsupported.h"
#include "tests/fuzz/targets.h"

namespace ringcow {
namespace {

// What FindExtension finds in the list of an accepted header lies in it, and was found by
// ParseHeader too.
void ExpectExtensionsFound(std::span<const std::byte> cluster, const Header& header) {
  constexpr size_t kBackingFileOffsetAt = 8;
  constexpr size_t kHeaderLengthAt = 100;
  const uint64_t begin =
      header.version >= 3 ? LoadBe<uint32_t>(&cluster[kHeaderLengthAt]) : kHeaderLengthV2;
  const uint64_t name = LoadBe<uint64_t>(&cluster[kBackingFileOffsetAt]);
  const uint64_t end = name != 0 ? name : cluster.size();
  const auto find = [&](uint32_t magic) {
    const std::optional<ExtensionPlace> place = FindExtension(cluster, begin, end, magic);
    if (!place.has_value()) return false;
    FUZZ_EXPECT(begin <= place->begin && place->begin + 8 == place->payload);
    FUZZ_EXPECT(place->payload <= place->end && place->payload <= end);
    FUZZ_EXPECT(magic == kExtensionEnd || place->end <= end);
    FUZZ_EXPECT(LoadBe<uint32_t>(&cluster[place->begin]) == magic);
    return true;
  };
  const HeaderExtensions& extensions = header.extensions;
  (void)find(kExtensionEnd);
  FUZZ_EXPECT(!find(kExtensionBitmaps) || extensions.bitmaps.has_value());
  FUZZ_EXPECT(!find(kExtensionCryptoHeader) || extensions.crypto_header.has_value());
  FUZZ_EXPECT(!find(kExtensionExternalDataFile) || extensions.external_data_file.has_value());
  for (const RawExtension& unknown : extensions.unknown) (void)find(unknown.magic);
}

// A header that was accepted can be written, and comes back as it was.
void ExpectRoundTrip(const Header& header, uint64_t file_size, HeaderChecks checks) {
  const absl::StatusOr<std::vector<std::byte>> bytes = SerializeHeader(header);
  if (!bytes.ok()) {
    // Ours is longer than a short header was, and has a feature name table.
    FUZZ_EXPECT(absl::IsOutOfRange(bytes.status()));
    return;
  }
  FUZZ_EXPECT(bytes->size() == header.cluster_bytes());
  const uint64_t bytes_now = std::max<uint64_t>(file_size, bytes->size());
  const absl::StatusOr<Header> again = ParseHeader(*bytes, bytes_now, checks);
  FUZZ_EXPECT(again.ok());
  FUZZ_EXPECT(*SerializeHeader(*again) == *bytes);
  FUZZ_EXPECT(again->backing_file == header.backing_file);
  FUZZ_EXPECT(again->unknown_fields == header.unknown_fields);
  FUZZ_EXPECT(again->extensions.unknown.size() == header.extensions.unknown.size());
}

}  // namespace

void FuzzHeader(std::span<const std::byte> input) {
  const absl::StatusOr<uint64_t> cluster_bytes = ReadClusterBytes(input);
  if (!cluster_bytes.ok()) {
    FUZZ_EXPECT(!ParseHeader(input, input.size()).ok());
    return;
  }
  // As part of a file that ends with the input, and of a large one.
  std::vector<std::byte> cluster(input.begin(), input.end());
  cluster.resize(std::max<uint64_t>(cluster.size(), *cluster_bytes));
  for (const uint64_t file_size : {uint64_t{input.size()}, uint64_t{1} << 50}) {
    for (const HeaderChecks checks : {HeaderChecks::kForIo, HeaderChecks::kForRepair}) {
      const absl::StatusOr<Header> header = ParseHeader(cluster, file_size, checks);
      if (!header.ok()) continue;
      const absl::StatusOr<Geometry> geometry = GeometryOf(*header);
      FUZZ_EXPECT(geometry.ok());
      FUZZ_EXPECT(geometry->l1_entries() <= header->l1_entries);
      CheckSupported(*header).IgnoreError();
      if (header->extensions.bitmaps.has_value()) {
        ParseBitmapsExtension(*header->extensions.bitmaps, *geometry).IgnoreError();
      }
      ExpectExtensionsFound(std::span(cluster).first(header->cluster_bytes()), *header);
      ExpectRoundTrip(*header, file_size, checks);
    }
  }
}

}  // namespace ringcow
