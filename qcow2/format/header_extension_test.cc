#include "qcow2/format/header_extension.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "qcow2/format/big_endian.h"

namespace ringcow {
namespace {

std::vector<std::byte> Bytes(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// A list that begins at offset 0.
class List {
 public:
  List& Add(uint32_t magic, const std::string& payload) {
    return AddHeader(magic, static_cast<uint32_t>(payload.size())).AddBytes(payload).Pad();
  }
  List& AddHeader(uint32_t magic, uint32_t length) {
    std::array<std::byte, 8> header = {};
    StoreBe<uint32_t>(header.data(), magic);
    StoreBe<uint32_t>(header.data() + 4, length);
    bytes_.insert(bytes_.end(), header.begin(), header.end());
    return *this;
  }
  List& AddBytes(const std::string& text) {
    const std::vector<std::byte> bytes = Bytes(text);
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  absl::StatusOr<HeaderExtensions> Parse() const {
    return ParseHeaderExtensions(bytes_, 0, bytes_.size());
  }
  absl::StatusOr<HeaderExtensions> ParseUpTo(uint64_t end) const {
    return ParseHeaderExtensions(bytes_, 0, end);
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  List& Pad() {
    bytes_.resize((bytes_.size() + 7) / 8 * 8);
    return *this;
  }

  std::vector<std::byte> bytes_;
};

std::string FeatureEntry(uint8_t type, uint8_t bit, std::string name) {
  name.resize(46, '\0');
  return std::string{static_cast<char>(type), static_cast<char>(bit)} + name;
}

TEST(HeaderExtensionTest, ParsesEveryKind) {
  const auto extensions = List()
                              .Add(kExtensionBackingFormat, "qcow2")
                              .Add(kExtensionExternalDataFile, "data.raw")
                              .Add(kExtensionCryptoHeader, "0123456789abcdef")
                              .Add(kExtensionBitmaps, "bitmaps")
                              .Add(0x12345678, "first")
                              .Add(0x12345678, "")
                              .Add(kExtensionEnd, "")
                              .Add(0x9abcdef0, "behind the end")
                              .Parse();
  ASSERT_TRUE(extensions.ok()) << extensions.status();
  EXPECT_EQ(extensions->backing_format, "qcow2");
  EXPECT_EQ(extensions->external_data_file, "data.raw");
  EXPECT_EQ(extensions->crypto_header, Bytes("0123456789abcdef"));
  EXPECT_EQ(extensions->bitmaps, Bytes("bitmaps"));
  ASSERT_EQ(extensions->unknown.size(), 2u);
  EXPECT_EQ(extensions->unknown[0].magic, 0x12345678u);
  EXPECT_EQ(extensions->unknown[0].payload, Bytes("first"));
  EXPECT_TRUE(extensions->unknown[1].payload.empty());
}

TEST(HeaderExtensionTest, AListMayEndWithItsRoom) {
  EXPECT_TRUE(List().Parse().ok());
  EXPECT_TRUE(List().Add(0x12345678, "12345678").Parse().ok());
  // Unpadded, the room ends with the payload.
  EXPECT_TRUE(List().AddHeader(0x12345678, 3).AddBytes("abc").Parse().ok());
}

TEST(HeaderExtensionTest, LengthsThatDoNotFit) {
  const auto problem = [](const absl::StatusOr<HeaderExtensions>& extensions) {
    EXPECT_EQ(extensions.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(extensions.status().message());
  };
  const std::string too_large = "Header extension too large";
  EXPECT_EQ(problem(List().AddHeader(0x12345678, 1).Parse()), too_large);
  EXPECT_EQ(problem(List().AddHeader(0x12345678, 0xffffffff).Parse()), too_large);
  EXPECT_EQ(problem(List().AddHeader(0x12345678, 9).AddBytes("12345678").Parse()), too_large);
  EXPECT_EQ(problem(List().AddBytes("1234").Parse()), too_large);
  EXPECT_EQ(problem(List().Add(0x12345678, "12345678").AddBytes("1234567").Parse()), too_large);
  // Bytes behind the end of the list do not count.
  EXPECT_EQ(problem(List().Add(0x12345678, "12345678").ParseUpTo(15)), too_large);
}

TEST(HeaderExtensionTest, TheFileMayEndBeforeTheCluster) {
  EXPECT_TRUE(List().ParseUpTo(4096).ok());
  EXPECT_TRUE(List().Add(0x12345678, "12345678").ParseUpTo(4096).ok());
  EXPECT_EQ(List().AddHeader(0x12345678, 9).AddBytes("12345678").ParseUpTo(4096).status().message(),
            "Header extension at offset 0 lies beyond the end of the file");
  EXPECT_EQ(List().AddBytes("1234").ParseUpTo(4096).status().message(),
            "Header extension too large");
}

// As QEMU's tests have them.
TEST(HeaderExtensionTest, FeatureNameWithoutItsPadding) {
  const auto extensions =
      List().Add(kExtensionFeatureNameTable, std::string("\0\x3fshort", 7)).Parse();
  ASSERT_TRUE(extensions.ok()) << extensions.status();
  ASSERT_EQ(extensions->feature_names.size(), 1u);
  EXPECT_EQ(extensions->feature_names[0].bit, 63);
  EXPECT_EQ(extensions->feature_names[0].name, "short");
}

TEST(HeaderExtensionTest, FeatureNames) {
  const std::string full_name(46, 'x');
  const auto extensions =
      List()
          .Add(kExtensionFeatureNameTable, FeatureEntry(0, 63, "sixty three") +
                                               FeatureEntry(1, 64, "no such bit") +
                                               FeatureEntry(3, 0, "no such type") +
                                               FeatureEntry(2, 1, full_name) + "an entry cut short")
          .Parse();
  ASSERT_TRUE(extensions.ok()) << extensions.status();
  ASSERT_EQ(extensions->feature_names.size(), 2u);
  EXPECT_EQ(extensions->feature_names[0].type, FeatureType::kIncompatible);
  EXPECT_EQ(extensions->feature_names[0].bit, 63);
  EXPECT_EQ(extensions->feature_names[0].name, "sixty three");
  EXPECT_EQ(extensions->feature_names[1].type, FeatureType::kAutoclear);
  EXPECT_EQ(extensions->feature_names[1].name, full_name);
}

TEST(HeaderExtensionTest, FeatureNamesEndAtAnEmptyName) {
  const auto extensions =
      List()
          .Add(kExtensionFeatureNameTable,
               FeatureEntry(0, 5, "five") + FeatureEntry(0, 6, "") + FeatureEntry(0, 7, "seven"))
          .Parse();
  ASSERT_TRUE(extensions.ok()) << extensions.status();
  ASSERT_EQ(extensions->feature_names.size(), 1u);
}

TEST(HeaderExtensionTest, AppendsInQemusOrder) {
  HeaderExtensions extensions;
  extensions.unknown = {{.magic = 0x12345678, .payload = Bytes("unknown")}};
  extensions.bitmaps = Bytes("bitmaps!");
  extensions.crypto_header = Bytes("crypto");
  extensions.external_data_file = "data";
  extensions.backing_format = "raw";
  extensions.feature_names = {{.type = FeatureType::kIncompatible, .bit = 9, .name = "not kept"}};

  std::string names;
  for (const KnownFeature& feature : kKnownFeatures) {
    names +=
        FeatureEntry(static_cast<uint8_t>(feature.type), feature.bit, std::string(feature.name));
  }
  EXPECT_EQ(names.size(), 384u);
  const List expected = List()
                            .Add(kExtensionBackingFormat, "raw")
                            .Add(kExtensionExternalDataFile, "data")
                            .Add(kExtensionCryptoHeader, "crypto")
                            .Add(kExtensionFeatureNameTable, names)
                            .Add(kExtensionBitmaps, "bitmaps!")
                            .Add(0x12345678, "unknown")
                            .Add(kExtensionEnd, "");
  std::vector<std::byte> bytes;
  AppendHeaderExtensions(extensions, /*with_feature_names=*/true, bytes);
  EXPECT_EQ(bytes, expected.bytes());

  bytes.clear();
  AppendHeaderExtensions({}, /*with_feature_names=*/false, bytes);
  EXPECT_EQ(bytes, List().Add(kExtensionEnd, "").bytes());
}

TEST(HeaderExtensionTest, UnknownIncompatibleFeaturesAreNamed) {
  const std::vector<FeatureName> names = {
      {.type = FeatureType::kCompatible, .bit = 40, .name = "another field's"},
      {.type = FeatureType::kIncompatible, .bit = 40, .name = "forty"},
      {.type = FeatureType::kIncompatible, .bit = 40, .name = "forty again"},
      {.type = FeatureType::kIncompatible, .bit = 50, .name = "fifty"},
      {.type = FeatureType::kIncompatible, .bit = 0, .name = "known"}};
  const auto problem = [&](uint64_t bits) {
    const absl::Status status = CheckIncompatibleFeatures(bits, names);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    return std::string(status.message());
  };
  EXPECT_TRUE(CheckIncompatibleFeatures(0, names).ok());
  EXPECT_TRUE(CheckIncompatibleFeatures(0x1f, names).ok());
  EXPECT_EQ(problem(uint64_t{1} << 40 | 1), "Unsupported qcow2 feature(s): forty");
  EXPECT_EQ(problem(uint64_t{1} << 50 | uint64_t{1} << 40 | 0x60),
            "Unsupported qcow2 feature(s): forty, fifty, Unknown incompatible feature: 60");
  EXPECT_EQ(problem(0x20), "Unsupported qcow2 feature(s): Unknown incompatible feature: 20");
}

}  // namespace
}  // namespace ringcow
