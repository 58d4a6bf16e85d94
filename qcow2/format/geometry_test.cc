#include "qcow2/format/geometry.h"

#include <gtest/gtest.h>

#include <string>

namespace ringcow {
namespace {

constexpr uint64_t kTiB = uint64_t{1} << 40;

Geometry Make(Geometry::Parameters parameters) {
  absl::StatusOr<Geometry> geometry = Geometry::Create(parameters);
  EXPECT_TRUE(geometry.ok()) << geometry.status();
  return *geometry;
}

TEST(GeometryTest, DefaultsOfQemu) {
  const Geometry geometry = Make({.virtual_size = (uint64_t{1} << 30) + 512});
  EXPECT_EQ(geometry.version(), 3u);
  EXPECT_EQ(geometry.cluster_bytes(), 65536u);
  EXPECT_EQ(geometry.l2_entries(), 8192u);
  EXPECT_EQ(geometry.bytes_per_l2_table(), uint64_t{512} << 20);
  EXPECT_EQ(geometry.guest_clusters(), 16385u);
  EXPECT_EQ(geometry.l1_entries(), 3u);
  EXPECT_EQ(geometry.refcount_bits(), 16u);
  EXPECT_EQ(geometry.max_refcount(), 65535u);
  EXPECT_EQ(geometry.refcount_block_entries(), 32768u);
  EXPECT_EQ(geometry.refcount_table_entries_per_cluster(), 8192u);
}

TEST(GeometryTest, SplitsAndJoinsOffsets) {
  const Geometry geometry = Make({.virtual_size = kTiB});
  const GuestOffset offset(3 * geometry.bytes_per_l2_table() + 5 * geometry.cluster_bytes() + 7);
  EXPECT_EQ(geometry.L1Index(offset), 3u);
  EXPECT_EQ(geometry.L2Index(offset), 5u);
  EXPECT_EQ(geometry.OffsetInCluster(offset), 7u);
  EXPECT_EQ(geometry.GuestOffsetOf(3, 5), geometry.ClusterStart(offset));

  const HostOffset host(32777 * geometry.cluster_bytes() + 11);
  const ClusterIndex cluster = geometry.ClusterOf(host);
  EXPECT_EQ(cluster, ClusterIndex(32777));
  EXPECT_EQ(geometry.OffsetOf(cluster), geometry.ClusterStart(host));
  EXPECT_EQ(geometry.OffsetInCluster(host), 11u);
  EXPECT_FALSE(geometry.IsClusterAligned(host));
  EXPECT_EQ(geometry.RefcountTableIndex(cluster), 1u);
  EXPECT_EQ(geometry.RefcountBlockIndex(cluster), 9u);
  EXPECT_EQ(geometry.FirstClusterOfRefcountBlock(1), ClusterIndex(32768));
  EXPECT_EQ(geometry.ClustersFor(65537), 2u);
}

// For every cluster size and refcount width: the indices put together give the offset again, for
// the last byte of the largest image too.
TEST(GeometryTest, IndicesAreConsistentForEveryShape) {
  for (uint32_t cluster_bits = kMinClusterBits; cluster_bits <= kMaxClusterBits; ++cluster_bits) {
    for (uint32_t order = 0; order <= kMaxRefcountOrder; ++order) {
      const uint64_t largest = kMaxL1Entries << (2 * cluster_bits - 3);
      const Geometry geometry =
          Make({.cluster_bits = cluster_bits, .refcount_order = order, .virtual_size = largest});
      EXPECT_EQ(geometry.l1_entries(), kMaxL1Entries);
      EXPECT_EQ(geometry.refcount_block_entries() * geometry.refcount_bits(),
                8 * geometry.cluster_bytes());
      for (const uint64_t offset : {uint64_t{0}, uint64_t{511}, largest / 3, largest - 1}) {
        const GuestOffset guest(offset);
        EXPECT_LT(geometry.L1Index(guest), geometry.l1_entries());
        EXPECT_LT(geometry.L2Index(guest), geometry.l2_entries());
        EXPECT_EQ(geometry.GuestOffsetOf(geometry.L1Index(guest), geometry.L2Index(guest)) +
                      geometry.OffsetInCluster(guest),
                  guest);
        const ClusterIndex cluster(offset >> cluster_bits);
        EXPECT_EQ(geometry.FirstClusterOfRefcountBlock(geometry.RefcountTableIndex(cluster)) +
                      geometry.RefcountBlockIndex(cluster),
                  cluster);
      }
    }
  }
}

TEST(GeometryTest, MaxRefcountOfEveryWidth) {
  EXPECT_EQ(Make({.refcount_order = 0}).max_refcount(), 1u);
  EXPECT_EQ(Make({.refcount_order = 1}).max_refcount(), 3u);
  EXPECT_EQ(Make({.refcount_order = 6}).max_refcount(), ~uint64_t{0});
}

TEST(GeometryTest, ExtendedL2HalvesWhatATableMaps) {
  const Geometry geometry = Make({.virtual_size = kTiB, .extended_l2 = true});
  EXPECT_EQ(geometry.l2_entry_bytes(), 16u);
  EXPECT_EQ(geometry.l2_entries(), 4096u);
  EXPECT_EQ(geometry.l1_entries(), 4096u);
}

TEST(GeometryTest, SubclustersDivideAClusterBy32) {
  const Geometry extended = Make({.virtual_size = kTiB, .extended_l2 = true});
  EXPECT_EQ(extended.subclusters_per_cluster(), 32u);
  EXPECT_EQ(extended.subcluster_bytes(), 2048u);
  EXPECT_EQ(extended.SubclusterIndex(GuestOffset(3 * 65536)), 0u);
  EXPECT_EQ(extended.SubclusterIndex(GuestOffset(3 * 65536 + 2047)), 0u);
  EXPECT_EQ(extended.SubclusterIndex(GuestOffset(3 * 65536 + 2048)), 1u);
  EXPECT_EQ(extended.SubclusterIndex(GuestOffset(4 * 65536 - 1)), 31u);

  const Geometry standard = Make({.virtual_size = kTiB});
  EXPECT_EQ(standard.subclusters_per_cluster(), 1u);
  EXPECT_EQ(standard.subcluster_bytes(), 65536u);
  EXPECT_EQ(standard.SubclusterIndex(GuestOffset(4 * 65536 - 1)), 0u);
}

TEST(GeometryTest, AnEmptyDiskHasNoL1Entries) {
  EXPECT_EQ(Make({.virtual_size = 0}).l1_entries(), 0u);
  EXPECT_EQ(Make({.virtual_size = 0}).guest_clusters(), 0u);
}

TEST(GeometryTest, RefusesWhatDoesNotExist) {
  const auto message = [](Geometry::Parameters parameters) {
    return std::string(Geometry::Create(parameters).status().message());
  };
  EXPECT_EQ(message({.version = 1}), "Unsupported qcow2 version 1");
  EXPECT_EQ(message({.version = 4}), "Unsupported qcow2 version 4");
  EXPECT_EQ(message({.cluster_bits = 8}), "Unsupported cluster size: 2^8");
  EXPECT_EQ(message({.cluster_bits = 22}), "Unsupported cluster size: 2^22");
  EXPECT_EQ(message({.cluster_bits = 13, .extended_l2 = true}), "Unsupported subcluster size: 256");
  EXPECT_EQ(message({.cluster_bits = 14, .extended_l2 = true}), "");
  EXPECT_EQ(message({.refcount_order = 7}),
            "Reference count entry width too large; may not exceed 64 bits");
  EXPECT_EQ(message({.virtual_size = 513}),
            "Image size must be a multiple of 512 bytes (it is 513)");
}

TEST(GeometryTest, RefusesSizesBeyondTheLargestL1Table) {
  const uint64_t largest = kMaxL1Entries * Make({}).bytes_per_l2_table();
  EXPECT_EQ(largest, uint64_t{1} << 51);
  EXPECT_TRUE(Make({}).Resized(largest).ok());
  EXPECT_EQ(Make({}).Resized(largest + 512).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Make({}).Resized(AlignDown(~uint64_t{0}, 512)).status().code(),
            absl::StatusCode::kOutOfRange);
}

}  // namespace
}  // namespace ringcow
