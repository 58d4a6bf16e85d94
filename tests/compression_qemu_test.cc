// Compressed clusters between QEMU and us, through the format functions alone: what `qemu-img
// convert -c` wrote is decompressed, and QEMU reads an image whose clusters we compressed.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/compression.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/header.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/format/l2_entry.h"
#include "qcow2/format/options.h"
#include "qcow2/format/refcount_block.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;
using Kind = L2Entry::Kind;

constexpr uint64_t kGuestClusters = 40;

Bytes ReadAll(const std::string& path) {
  Bytes bytes(std::filesystem::file_size(path));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

void WriteAll(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

// Clusters that compress well, hardly, and not at all, and zeroes.
Bytes GuestContent(uint64_t cluster_bytes) {
  std::mt19937 random(11);
  Bytes content(kGuestClusters * cluster_bytes);
  for (uint64_t cluster = 0; cluster < kGuestClusters; ++cluster) {
    const uint32_t alphabet = cluster % 8 == 7 ? 1 : 2u << cluster % 8;
    const uint32_t first = alphabet == 1 ? 0 : 65;
    for (std::byte& byte : std::span(content).subspan(cluster * cluster_bytes, cluster_bytes)) {
      byte = static_cast<std::byte>(first + random() % alphabet);
    }
  }
  return content;
}

struct Format {
  uint32_t cluster_bits;
  CompressionType compression_type;
  bool extended_l2;
};

class CompressionQemuTest : public testing::TestWithParam<Format> {
 protected:
  TempFile image_{".qcow2"};
  TempFile raw_{".raw"};
};

INSTANTIATE_TEST_SUITE_P(All, CompressionQemuTest,
                         testing::Values(Format{9, CompressionType::kZlib, false},
                                         Format{12, CompressionType::kZlib, false},
                                         Format{16, CompressionType::kZlib, false},
                                         Format{16, CompressionType::kZlib, true},
                                         Format{18, CompressionType::kZlib, false},
                                         Format{9, CompressionType::kZstd, false},
                                         Format{16, CompressionType::kZstd, false},
                                         Format{16, CompressionType::kZstd, true},
                                         Format{18, CompressionType::kZstd, false}),
                         [](const auto& info) {
                           return absl::StrCat(CompressionTypeName(info.param.compression_type),
                                               "In2To", info.param.cluster_bits,
                                               info.param.extended_l2 ? "Extended" : "");
                         });

// The L2 entry of every guest cluster of an image with one L2 table.
std::vector<L2Entry> EntriesOf(std::span<const std::byte> image, const Header& header,
                               const Geometry& geometry) {
  std::vector<L2Entry> entries;
  const auto at = [image](HostOffset offset) { return image.subspan(offset.value()); };
  for (uint64_t cluster = 0; cluster < kGuestClusters; ++cluster) {
    const GuestOffset offset(cluster * geometry.cluster_bytes());
    const auto l2_table =
        L1Entry::FromRaw(LoadBe64At(at(header.l1_table_offset), geometry.L1Index(offset)))
            .l2_table();
    EXPECT_TRUE(l2_table.has_value());
    const size_t word = geometry.L2Index(offset) * (geometry.l2_entry_bytes() / 8);
    entries.push_back(L2Entry::FromRaw(LoadBe64At(at(*l2_table), word)));
    EXPECT_TRUE(entries.back().IsValid(geometry));
  }
  return entries;
}

TEST_P(CompressionQemuTest, WhatQemuCompressedIsRead) {
  const Bytes content = GuestContent(uint64_t{1} << GetParam().cluster_bits);
  WriteAll(raw_.path(), content);
  QemuImg({"convert", "-c", "-f", "raw", "-O", "qcow2", "-o",
           absl::StrCat("cluster_size=", 1 << GetParam().cluster_bits,
                        ",compression_type=", CompressionTypeName(GetParam().compression_type),
                        GetParam().extended_l2 ? ",extended_l2=on" : ""),
           raw_.path(), image_.path()});
  const Bytes image = ReadAll(image_.path());
  const absl::StatusOr<Header> header = ParseHeader(image, image.size());
  ASSERT_TRUE(header.ok()) << header.status();
  const Geometry geometry = *GeometryOf(*header);

  auto decompressor = *ClusterDecompressor::Create(header->compression_type);
  uint64_t compressed = 0;
  Bytes cluster(geometry.cluster_bytes());
  const std::vector<L2Entry> entries = EntriesOf(image, *header, geometry);
  for (uint64_t i = 0; i < kGuestClusters; ++i) {
    std::fill(cluster.begin(), cluster.end(), std::byte{0});
    if (const auto extent = entries[i].compressed_extent(geometry)) {
      const uint64_t begin = extent->offset.value();
      const uint64_t bytes = std::min(extent->bytes, image.size() - begin);
      EXPECT_TRUE(decompressor->Decompress(std::span(image).subspan(begin, bytes), cluster).ok());
      ++compressed;
    } else if (const auto host = entries[i].host_offset()) {
      std::copy_n(image.begin() + static_cast<ptrdiff_t>(host->value()), cluster.size(),
                  cluster.begin());
    }
    EXPECT_TRUE(std::equal(cluster.begin(), cluster.end(),
                           content.begin() + static_cast<ptrdiff_t>(i * cluster.size())))
        << "cluster " << i;
  }
  EXPECT_GE(compressed, kGuestClusters / 2);
}

// An image in memory: header, refcount table, one refcount block, L1 table, one L2 table, data.
class ImageBuilder {
 public:
  explicit ImageBuilder(const Format& format) {
    header_.cluster_bits = format.cluster_bits;
    header_.compression_type = format.compression_type;
    header_.virtual_size = kGuestClusters << format.cluster_bits;
    if (format.compression_type != CompressionType::kZlib) {
      header_.incompatible_features |= kIncompatibleCompressionType;
    }
    if (format.extended_l2) header_.incompatible_features |= kIncompatibleExtendedL2;
    header_.refcount_table_offset = HostOffset(header_.cluster_bytes());
    header_.refcount_table_clusters = 1;
    header_.l1_table_offset = HostOffset(3 * header_.cluster_bytes());
    geometry_ = *GeometryOf(header_);
    header_.l1_entries = static_cast<uint32_t>(geometry_.l1_entries());
    EXPECT_EQ(header_.l1_entries, 1u);

    image_ = *SerializeHeader(header_);
    image_.resize(5 * geometry_.cluster_bytes());
    StoreBe64At(Cluster(1), 0, 2 * geometry_.cluster_bytes());
    StoreBe64At(Cluster(3), 0,
                L1Entry::Table(HostOffset(4 * geometry_.cluster_bytes()), true).raw());
    for (uint64_t i = 0; i < 5; ++i) AddReference(i);
  }

  const Geometry& geometry() const { return geometry_; }
  const Bytes& image() const { return image_; }

  // Packed behind what is there, as QEMU packs compressed clusters.
  void AddCompressed(uint64_t guest_cluster, std::span<const std::byte> data) {
    const HostOffset offset(image_.size());
    image_.insert(image_.end(), data.begin(), data.end());
    const L2Entry entry = L2Entry::Compressed(geometry_, offset, data.size());
    const CompressedExtent extent = *entry.compressed_extent(geometry_);
    const uint64_t first = geometry_.ClusterOf(offset).value();
    const uint64_t last = geometry_.ClusterOf(offset + (extent.bytes - 1)).value();
    for (uint64_t i = first; i <= last; ++i) AddReference(i);
    SetEntry(guest_cluster, entry);
  }

  void AddNormal(uint64_t guest_cluster, std::span<const std::byte> cluster) {
    image_.resize(AlignUp(image_.size(), geometry_.cluster_bytes()));
    const HostOffset offset(image_.size());
    image_.insert(image_.end(), cluster.begin(), cluster.end());
    AddReference(geometry_.ClusterOf(offset).value());
    SetEntry(guest_cluster, L2Entry::Normal(offset, /*copied=*/true));
    // All subclusters are allocated.
    if (geometry_.extended_l2()) StoreBe64At(Cluster(4), guest_cluster * 2 + 1, 0xffffffff);
  }

 private:
  std::span<std::byte> Cluster(uint64_t index) {
    return std::span(image_).subspan(index * geometry_.cluster_bytes(), geometry_.cluster_bytes());
  }
  void AddReference(uint64_t cluster) {
    const uint64_t count = GetRefcount(Cluster(2), cluster, 4);
    SetRefcount(Cluster(2), cluster, 4, count + 1);
  }
  void SetEntry(uint64_t guest_cluster, L2Entry entry) {
    StoreBe64At(Cluster(4), guest_cluster * (geometry_.l2_entry_bytes() / 8), entry.raw());
  }

  Header header_;
  Geometry geometry_ = *Geometry::Create({});
  Bytes image_;
};

TEST_P(CompressionQemuTest, QemuReadsWhatWeCompressed) {
  ImageBuilder builder(GetParam());
  const uint64_t cluster_bytes = builder.geometry().cluster_bytes();
  const Bytes content = GuestContent(cluster_bytes);
  auto compressor = *ClusterCompressor::Create(GetParam().compression_type);
  Bytes out(cluster_bytes);
  uint64_t compressed = 0;
  for (uint64_t i = 0; i < kGuestClusters; ++i) {
    const auto cluster = std::span(content).subspan(i * cluster_bytes, cluster_bytes);
    if (const std::optional<size_t> bytes = compressor->Compress(cluster, out)) {
      builder.AddCompressed(i, std::span(out).first(*bytes));
      ++compressed;
    } else {
      builder.AddNormal(i, cluster);
    }
  }
  EXPECT_GE(compressed, kGuestClusters / 2);
  WriteAll(raw_.path(), content);
  WriteAll(image_.path(), builder.image());
  const ToolResult check = QemuCheck(image_.path());
  EXPECT_EQ(check.status, 0) << check.output;
  QemuImg({"compare", "-f", "qcow2", "-F", "raw", image_.path(), raw_.path()});
}

}  // namespace
}  // namespace ringcow
