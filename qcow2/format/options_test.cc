#include "qcow2/format/options.h"

#include <gtest/gtest.h>

#include <string>

namespace ringcow {
namespace {

std::string Problem(const CreateOptions& options) {
  return std::string(ValidateCreateOptions(options).status().message());
}

TEST(OptionsTest, DefaultsAreQemus) {
  const absl::StatusOr<Geometry> geometry = ValidateCreateOptions({.virtual_size = 1 << 20});
  ASSERT_TRUE(geometry.ok()) << geometry.status();
  EXPECT_EQ(geometry->version(), 3u);
  EXPECT_EQ(geometry->cluster_bytes(), 65536u);
  EXPECT_EQ(geometry->refcount_bits(), 16u);
  EXPECT_EQ(geometry->virtual_size(), 1u << 20);
}

TEST(OptionsTest, SizesAreRoundedUpToSectors) {
  EXPECT_EQ(ValidateCreateOptions({.virtual_size = 0})->virtual_size(), 0u);
  EXPECT_EQ(ValidateCreateOptions({.virtual_size = 1})->virtual_size(), 512u);
  EXPECT_EQ(ValidateCreateOptions({.virtual_size = 512})->virtual_size(), 512u);
  EXPECT_EQ(ValidateCreateOptions({.virtual_size = 513})->virtual_size(), 1024u);
}

TEST(OptionsTest, EveryShapeThatExists) {
  for (uint64_t cluster_size = 512; cluster_size <= 2 << 20; cluster_size *= 2) {
    for (uint64_t refcount_bits = 1; refcount_bits <= 64; refcount_bits *= 2) {
      const auto geometry = ValidateCreateOptions(
          {.virtual_size = 1 << 20, .cluster_size = cluster_size, .refcount_bits = refcount_bits});
      ASSERT_TRUE(geometry.ok()) << geometry.status();
      EXPECT_EQ(geometry->cluster_bytes(), cluster_size);
      EXPECT_EQ(geometry->refcount_bits(), refcount_bits);
    }
  }
}

TEST(OptionsTest, ClusterSizes) {
  for (const uint64_t size : {uint64_t{0}, uint64_t{1}, uint64_t{256}, uint64_t{513},
                              uint64_t{65535}, uint64_t{4} << 20, uint64_t{1} << 63}) {
    EXPECT_EQ(Problem({.cluster_size = size}),
              "Cluster size must be a power of two between 512 and 2048k");
  }
}

TEST(OptionsTest, RefcountWidths) {
  for (const uint64_t bits : {0, 3, 65, 128}) {
    EXPECT_EQ(Problem({.refcount_bits = bits}),
              "Refcount width must be a power of two and may not exceed 64 bits");
  }
}

TEST(OptionsTest, WhatVersion2DoesNotHave) {
  EXPECT_EQ(Problem({.version = 2}), "");
  EXPECT_EQ(Problem({.version = 2, .refcount_bits = 8}),
            "Different refcount widths than 16 bits require compatibility level 1.1 or above (use "
            "version=v3 or greater)");
  EXPECT_EQ(Problem({.version = 2, .lazy_refcounts = true}),
            "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 "
            "or greater)");
  EXPECT_EQ(Problem({.version = 2, .compression_type = CompressionType::kZstd}),
            "Non-zlib compression type is only supported with compatibility level 1.1 and above "
            "(use version=v3 or greater)");
  EXPECT_EQ(Problem({.version = 4}), "Unsupported qcow2 version 4");
}

TEST(OptionsTest, SizesTheClusterSizeCannotCarry) {
  const std::string too_large =
      "The image size is too large for file format 'qcow2' (try using a larger cluster size)";
  const uint64_t largest = uint64_t{128} << 30;
  EXPECT_EQ(Problem({.virtual_size = largest, .cluster_size = 512}), "");
  EXPECT_EQ(Problem({.virtual_size = largest + 1, .cluster_size = 512}), too_large);
  EXPECT_EQ(Problem({.virtual_size = uint64_t{2} << 50}), "");
  EXPECT_EQ(Problem({.virtual_size = uint64_t{4} << 50}), too_large);
  EXPECT_EQ(Problem({.virtual_size = INT64_MAX, .cluster_size = 2 << 20}), too_large);
  EXPECT_EQ(Problem({.virtual_size = ~uint64_t{0}, .cluster_size = 2 << 20}), too_large);
}

TEST(OptionsTest, OptionValues) {
  for (const std::string value : {"off", "metadata", "falloc", "full"}) {
    EXPECT_EQ(PreallocationName(*ParsePreallocation(value)), value);
  }
  EXPECT_EQ(ParsePreallocation("1234").status().message(),
            "Parameter 'preallocation' does not accept value '1234'");
  EXPECT_EQ(*ParseCompat("0.10"), 2u);
  EXPECT_EQ(*ParseCompat("v2"), 2u);
  EXPECT_EQ(*ParseCompat("1.1"), 3u);
  EXPECT_EQ(*ParseCompat("v3"), 3u);
  EXPECT_EQ(ParseCompat("0.42").status().message(),
            "Parameter 'version' does not accept value '0.42'");
  EXPECT_EQ(CompatName(2), "0.10");
  EXPECT_EQ(CompatName(3), "1.1");
  EXPECT_EQ(*ParseCompressionType("zlib"), CompressionType::kZlib);
  EXPECT_EQ(*ParseCompressionType("zstd"), CompressionType::kZstd);
  EXPECT_EQ(ParseCompressionType("foo").status().message(),
            "Parameter 'compression-type' does not accept value 'foo'");
}

}  // namespace
}  // namespace ringcow
