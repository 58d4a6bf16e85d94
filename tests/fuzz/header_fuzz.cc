#include <algorithm>
#include <vector>

#include "qcow2/format/bitmap_directory.h"
#include "qcow2/format/header.h"
#include "qcow2/format/unsupported.h"
#include "tests/fuzz/targets.h"

namespace ringcow {
namespace {

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
      ExpectRoundTrip(*header, file_size, checks);
    }
  }
}

}  // namespace ringcow
