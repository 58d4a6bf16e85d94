#include "qcow2/format/unsupported.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace ringcow {
namespace {

// What is said about a fresh header changed by `change`.
std::string Reason(const std::function<void(Header&)>& change) {
  Header header;
  change(header);
  const absl::Status status = CheckSupported(header);
  if (!status.ok()) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  }
  return std::string(status.message());
}

TEST(UnsupportedTest, WhatIsSupported) {
  EXPECT_EQ(Reason([](Header&) {}), "");
  EXPECT_EQ(Reason([](Header& h) { h.version = 2; }), "");
  EXPECT_EQ(Reason([](Header& h) { h.backing_file = "base.raw"; }), "");
  EXPECT_EQ(Reason([](Header& h) { h.nb_snapshots = 2; }), "");
  EXPECT_EQ(Reason([](Header& h) {
              h.compression_type = CompressionType::kZstd;
              h.incompatible_features = kIncompatibleCompressionType | kIncompatibleDirty |
                                        kIncompatibleCorrupt | kIncompatibleExtendedL2 |
                                        kIncompatibleExternalDataFile;
              h.compatible_features = ~uint64_t{0};
              h.autoclear_features = ~uint64_t{0};
            }),
            "");
}

TEST(UnsupportedTest, WhatIsNotIsNamed) {
  EXPECT_EQ(Reason([](Header& h) { h.crypt_method = CryptMethod::kAes; }),
            "The image is encrypted (AES); encryption is not supported yet");
  EXPECT_EQ(Reason([](Header& h) { h.crypt_method = CryptMethod::kLuks; }),
            "The image is encrypted (LUKS); encryption is not supported yet");
}

}  // namespace
}  // namespace ringcow
