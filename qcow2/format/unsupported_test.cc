#include "qcow2/format/unsupported.h"

#include <gtest/gtest.h>

#include <string>

namespace ringcow {
namespace {

std::string Reason(const Header& header) {
  const absl::Status status = CheckSupported(header);
  if (!status.ok()) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  }
  return std::string(status.message());
}

TEST(UnsupportedTest, WhatIsSupported) {
  EXPECT_EQ(Reason({}), "");
  EXPECT_EQ(Reason({.version = 2}), "");
  EXPECT_EQ(Reason({.compression_type = CompressionType::kZstd,
                    .incompatible_features =
                        kIncompatibleCompressionType | kIncompatibleDirty | kIncompatibleCorrupt,
                    .compatible_features = ~uint64_t{0},
                    .autoclear_features = ~uint64_t{0}}),
            "");
}

TEST(UnsupportedTest, WhatIsNotIsNamed) {
  EXPECT_EQ(Reason({.backing_file = "base.raw"}),
            "The image has a backing file ('base.raw'); backing files are not supported yet");
  EXPECT_EQ(Reason({.nb_snapshots = 2}),
            "The image has 2 internal snapshot(s); snapshots are not supported yet");
  EXPECT_EQ(Reason({.crypt_method = CryptMethod::kAes}),
            "The image is encrypted (AES); encryption is not supported yet");
  EXPECT_EQ(Reason({.crypt_method = CryptMethod::kLuks}),
            "The image is encrypted (LUKS); encryption is not supported yet");
  EXPECT_EQ(Reason({.incompatible_features = kIncompatibleExternalDataFile}),
            "The image keeps its data in an external data file; that is not supported yet");
  EXPECT_EQ(Reason({.incompatible_features = kIncompatibleExtendedL2}),
            "The image has extended L2 entries (subclusters); they are not supported yet");
}

}  // namespace
}  // namespace ringcow
