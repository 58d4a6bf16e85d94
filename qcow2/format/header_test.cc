#include "qcow2/format/header.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>

#include "qcow2/format/big_endian.h"
#include "qcow2/format/header_layout.h"
#include "qcow2/format/test_images.h"

namespace ringcow {
namespace {

std::vector<std::byte> Bytes(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> Serialize(const Header& header) {
  absl::StatusOr<std::vector<std::byte>> bytes = SerializeHeader(header);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return *bytes;
}

class BrokenHeaderTest : public testing::TestWithParam<BrokenHeader> {};

TEST_P(BrokenHeaderTest, IsRefusedForTheRightReason) {
  const BrokenHeader& broken = GetParam();
  const absl::Status status = ParseHeader(BytesOf(broken), broken.file_bytes).status();
  EXPECT_EQ(status.code(), broken.code);
  EXPECT_EQ(status.message(), broken.message);
}

INSTANTIATE_TEST_SUITE_P(All, BrokenHeaderTest, testing::ValuesIn(BrokenHeaders()),
                         [](const auto& info) { return info.param.name; });

TEST(HeaderTest, AFreshHeaderIsParsed) {
  const std::vector<std::byte> bytes = Serialize(FreshHeader());
  ASSERT_EQ(bytes.size(), 65536u);
  EXPECT_EQ(*ReadClusterBytes(std::span(bytes).first(kHeaderPrefixBytes)), 65536u);

  const absl::StatusOr<Header> header = ParseHeader(bytes, kFreshFileBytes);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->version, 3u);
  EXPECT_EQ(header->cluster_bits, 16u);
  EXPECT_EQ(header->refcount_order, 4u);
  EXPECT_EQ(header->virtual_size, 64u << 20);
  EXPECT_EQ(header->l1_table_offset, HostOffset(0x30000));
  EXPECT_EQ(header->l1_entries, 1u);
  EXPECT_EQ(header->refcount_table_offset, HostOffset(0x10000));
  EXPECT_EQ(header->refcount_table_clusters, 1u);
  EXPECT_EQ(header->refcount_table_entries(), 8192u);
  EXPECT_EQ(header->backing_file, "");
  EXPECT_EQ(header->extensions.feature_names.size(), kKnownFeatures.size());
  EXPECT_TRUE(header->unknown_fields.empty());
  EXPECT_EQ(Serialize(*header), bytes);
  EXPECT_EQ(GeometryOf(*header)->virtual_size(), 64u << 20);
}

// Everything that can be in a header survives being parsed and serialized again.
TEST(HeaderTest, EverythingIsKept) {
  Header header = FreshHeader();
  header.refcount_order = 6;
  header.crypt_method = CryptMethod::kLuks;
  header.compression_type = CompressionType::kZstd;
  header.snapshots_offset = HostOffset(0x20000);
  header.nb_snapshots = 3;
  header.incompatible_features = kKnownIncompatibleFeatures;
  header.compatible_features = 0x8000000000000001;
  header.autoclear_features = 0x4000000000000003;
  header.padding[6] = std::byte{0x77};
  header.unknown_fields = Bytes("sixteen bytes...");
  header.backing_file = std::string(kMaxBackingFileNameBytes, 'b');
  header.extensions.backing_format = "qcow2";
  header.extensions.external_data_file = "data.raw";
  header.extensions.crypto_header = Bytes("0123456789abcdef");
  header.extensions.bitmaps = Bytes("bitmaps");
  header.extensions.unknown = {{.magic = 0x12345678, .payload = Bytes("odd")},
                               {.magic = 0x12345679, .payload = {}}};

  const std::vector<std::byte> bytes = Serialize(header);
  const absl::StatusOr<Header> parsed = ParseHeader(bytes, kFreshFileBytes);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->refcount_order, 6u);
  EXPECT_EQ(parsed->crypt_method, CryptMethod::kLuks);
  EXPECT_EQ(parsed->compression_type, CompressionType::kZstd);
  EXPECT_EQ(parsed->snapshots_offset, HostOffset(0x20000));
  EXPECT_EQ(parsed->nb_snapshots, 3u);
  EXPECT_EQ(parsed->incompatible_features, header.incompatible_features);
  EXPECT_EQ(parsed->compatible_features, header.compatible_features);
  EXPECT_EQ(parsed->autoclear_features, header.autoclear_features);
  EXPECT_EQ(parsed->unknown_fields, header.unknown_fields);
  EXPECT_EQ(parsed->backing_file, header.backing_file);
  EXPECT_EQ(parsed->extensions.unknown.size(), 2u);
  EXPECT_TRUE(parsed->dirty() && parsed->corrupt() && parsed->lazy_refcounts());
  EXPECT_EQ(Serialize(*parsed), bytes);
}

// What rebase, amend, resize and bitmap do to a header: parts of it become longer, shorter, appear
// and go, and the others stay.
TEST(HeaderTest, IsChangedWithoutLosingTheRest) {
  Header header = FreshHeader();
  header.unknown_fields = Bytes("unknown.");
  header.compatible_features = 0x8000000000000000;
  header.extensions.unknown = {{.magic = 0x12345678, .payload = Bytes("odd")}};
  header.backing_file = "base.qcow2";
  header.extensions.backing_format = "qcow2";
  std::vector<std::byte> bytes = Serialize(header);

  const std::vector<std::function<void(Header&)>> kChanges = {
      [](Header& h) { h.backing_file = "json:{\"driver\": \"raw\"}" + std::string(800, ' '); },
      [](Header& h) { h.extensions.backing_format = "raw"; },
      [](Header& h) { h.extensions.bitmaps = Bytes("0123456789abcdef01234567"); },
      [](Header& h) { h.autoclear_features |= kAutoclearBitmaps; },
      [](Header& h) { h.virtual_size = 1 << 20; },
      [](Header& h) {
        h.backing_file.clear();
        h.extensions.backing_format.reset();
      },
      [](Header& h) { h.extensions.bitmaps.reset(); },
      [](Header& h) { h.incompatible_features |= kIncompatibleDirty; },
  };
  for (const auto& change : kChanges) {
    Header expected = *ParseHeader(bytes, kFreshFileBytes);
    change(expected);
    bytes = Serialize(expected);
    const absl::StatusOr<Header> parsed = ParseHeader(bytes, kFreshFileBytes);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->backing_file, expected.backing_file);
    EXPECT_EQ(parsed->extensions.backing_format, expected.extensions.backing_format);
    EXPECT_EQ(parsed->extensions.bitmaps, expected.extensions.bitmaps);
    EXPECT_EQ(parsed->autoclear_features, expected.autoclear_features);
    EXPECT_EQ(parsed->incompatible_features, expected.incompatible_features);
    EXPECT_EQ(parsed->virtual_size, expected.virtual_size);
    EXPECT_EQ(parsed->unknown_fields, Bytes("unknown."));
    EXPECT_EQ(parsed->compatible_features, 0x8000000000000000);
    ASSERT_EQ(parsed->extensions.unknown.size(), 1u);
    EXPECT_EQ(parsed->extensions.unknown[0].payload, Bytes("odd"));
  }
}

TEST(HeaderTest, Version2EndsAfter72Bytes) {
  Header header = FreshHeader();
  header.version = 2;
  header.backing_file = "base.raw";
  header.extensions.backing_format = "raw";
  const std::vector<std::byte> bytes = Serialize(header);
  EXPECT_EQ(LoadBe<uint32_t>(bytes.data() + kHeaderLengthV2), kExtensionBackingFormat);

  const absl::StatusOr<Header> parsed = ParseHeader(bytes, kFreshFileBytes);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->backing_file, "base.raw");
  EXPECT_EQ(parsed->extensions.backing_format, "raw");
  EXPECT_EQ(parsed->incompatible_features, 0u);
  EXPECT_EQ(parsed->refcount_order, 4u);
  EXPECT_EQ(Serialize(*parsed), bytes);
}

// The first version 3 images ended their header at byte 104: what follows is an extension.
TEST(HeaderTest, AHeaderOf104BytesHasNoCompressionType) {
  std::vector<std::byte> bytes = Serialize(FreshHeader());
  std::fill(bytes.begin() + kMinHeaderLengthV3, bytes.end(), std::byte{0});
  Apply(
      {Patch32(offsetof(HeaderOnDisk, header_length), 104), Patch32(kMinHeaderLengthV3, 0x12345678),
       Patch32(kMinHeaderLengthV3 + 4, 8), PatchText(kMinHeaderLengthV3 + 8, "12345678")},
      bytes);
  const absl::StatusOr<Header> header = ParseHeader(bytes, kFreshFileBytes);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->compression_type, CompressionType::kZlib);
  ASSERT_EQ(header->extensions.unknown.size(), 1u);
  EXPECT_EQ(header->extensions.unknown[0].payload, Bytes("12345678"));
  EXPECT_EQ(LoadBe<uint32_t>(Serialize(*header).data() + offsetof(HeaderOnDisk, header_length)),
            112u);
}

TEST(HeaderTest, AFileMayEndInTheFirstClusterIfNothingIsMissing) {
  Header header = FreshHeader();
  header.virtual_size = 0;
  header.l1_table_offset = HostOffset(0);
  header.l1_entries = 0;
  header.refcount_table_clusters = 0;
  const std::vector<std::byte> bytes = Serialize(header);
  for (const uint64_t file_bytes : {504, 512, 4096}) {
    const auto parsed =
        ParseHeader(std::span(bytes).first(file_bytes), file_bytes, HeaderChecks::kForRepair);
    EXPECT_TRUE(parsed.ok()) << file_bytes << ": " << parsed.status();
  }
}

TEST(HeaderTest, ABackingFileNameOrExtensionBeyondTheFileIsRefused) {
  std::vector<std::byte> bytes = Serialize(FreshHeader());
  const auto refusal = [&bytes](uint64_t file_bytes) {
    return std::string(ParseHeader(bytes, file_bytes, HeaderChecks::kForRepair).status().message());
  };
  Apply({Patch64(offsetof(HeaderOnDisk, l1_table_offset), 0),
         Patch32(offsetof(HeaderOnDisk, l1_size), 0), Patch64(offsetof(HeaderOnDisk, size), 0)},
        bytes);
  EXPECT_EQ(refusal(300), "Header extension at offset 0x70 lies beyond the end of the file");
  Apply({Patch64(offsetof(HeaderOnDisk, backing_file_offset), 1000),
         Patch32(offsetof(HeaderOnDisk, backing_file_size), 8)},
        bytes);
  EXPECT_EQ(refusal(1007),
            "Backing file name at offset 0x3e8 (8 bytes) lies beyond the end of the file");
  EXPECT_EQ(refusal(999),
            "Backing file name at offset 0x3e8 (8 bytes) lies beyond the end of the file");
  EXPECT_EQ(refusal(1008), "");
}

TEST(HeaderTest, RepairMayLookAtBrokenRefcountAndSnapshotTables) {
  const std::vector<std::vector<Patch>> kMendable = {
      {Patch32(offsetof(HeaderOnDisk, refcount_table_clusters), 0)},
      {Patch32(offsetof(HeaderOnDisk, refcount_table_clusters), 3)},
      {Patch32(offsetof(HeaderOnDisk, nb_snapshots), 0xffffffff)},
      {Patch64(offsetof(HeaderOnDisk, snapshots_offset), 0x12345)}};
  for (const std::vector<Patch>& patches : kMendable) {
    std::vector<std::byte> bytes = Serialize(FreshHeader());
    Apply(patches, bytes);
    EXPECT_FALSE(ParseHeader(bytes, kFreshFileBytes, HeaderChecks::kForIo).ok());
    EXPECT_TRUE(ParseHeader(bytes, kFreshFileBytes, HeaderChecks::kForRepair).ok());
  }
}

TEST(HeaderTest, WhoseRefcountTableIsItselfCanBeRead) {
  std::vector<std::byte> bytes = Serialize(FreshHeader());
  Apply({Patch64(offsetof(HeaderOnDisk, refcount_table_offset), 0)}, bytes);
  EXPECT_TRUE(ParseHeader(bytes, kFreshFileBytes, HeaderChecks::kForIo).ok());
  EXPECT_FALSE(ParseHeader(bytes, kFreshFileBytes, HeaderChecks::kForRepair).ok());
}

TEST(HeaderTest, LargestTablesAreAccepted) {
  Header header = FreshHeader();
  header.virtual_size = uint64_t{1} << 51;
  header.l1_entries = kMaxL1Entries;
  header.refcount_table_clusters = kMaxRefcountTableBytes / 65536;
  header.snapshots_offset = HostOffset(0x10000);
  header.nb_snapshots = kMaxSnapshots;
  const absl::StatusOr<Header> parsed = ParseHeader(Serialize(header), uint64_t{1} << 30);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(GeometryOf(*parsed)->l1_entries(), kMaxL1Entries);
}

TEST(HeaderTest, ASizeThatIsNotWholeSectorsIsRoundedDown) {
  Header header = FreshHeader();
  header.virtual_size = 1023;
  const absl::StatusOr<Header> parsed = ParseHeader(Serialize(header), kFreshFileBytes);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->virtual_size, 1023u);
  EXPECT_EQ(GeometryOf(*parsed)->virtual_size(), 512u);
}

TEST(HeaderTest, TheFeatureNameTableNeedsRoom) {
  for (uint32_t bits = kMinClusterBits; bits <= kMaxClusterBits; ++bits) {
    Header header = FreshHeader();
    header.cluster_bits = bits;
    const std::vector<std::byte> bytes = Serialize(header);
    EXPECT_EQ(bytes.size(), uint64_t{1} << bits);
    EXPECT_EQ(LoadBe<uint32_t>(bytes.data() + kHeaderLengthV3),
              bits > 12 ? kExtensionFeatureNameTable : kExtensionEnd);
  }
}

TEST(HeaderTest, WhatDoesNotFitIsRefused) {
  Header header = FreshHeader();
  header.backing_file = std::string(kMaxBackingFileNameBytes + 1, 'b');
  EXPECT_EQ(SerializeHeader(header).status().message(), "Backing file name too long");

  header.cluster_bits = 9;
  header.backing_file = std::string(512 - 120, 'b');
  EXPECT_TRUE(SerializeHeader(header).ok());
  header.backing_file += 'b';
  EXPECT_EQ(SerializeHeader(header).status().code(), absl::StatusCode::kOutOfRange);
}

// Every prefix of a header, and every byte of it set to several values: refused or parsed, never
// out of bounds (the sanitizers watch).
TEST(HeaderTest, NoCutAndNoByteLeadsOutOfBounds) {
  Header header = FreshHeader();
  header.cluster_bits = 9;
  header.backing_file = "base";
  header.extensions.unknown = {{.magic = 0x12345678, .payload = Bytes("payload")}};
  const std::vector<std::byte> bytes = Serialize(header);
  for (size_t size = 0; size <= bytes.size(); ++size) {
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    for (const auto checks : {HeaderChecks::kForIo, HeaderChecks::kForRepair}) {
      EXPECT_FALSE(ParseHeader(cut, size, checks).ok()) << size;
    }
  }
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const uint8_t value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      std::vector<std::byte> changed = bytes;
      changed[i] = std::byte{value};
      const uint64_t cluster_bytes = ReadClusterBytes(changed).value_or(0);
      changed.resize(std::max<uint64_t>(cluster_bytes, changed.size()));
      const absl::StatusOr<Header> parsed = ParseHeader(changed, kFreshFileBytes);
      if (parsed.ok()) {
        EXPECT_TRUE(GeometryOf(*parsed).ok()) << i;
      }
    }
  }
}

}  // namespace
}  // namespace ringcow
