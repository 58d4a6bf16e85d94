#include "qcow2/reference_counts.h"

#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

TEST(ReferenceCountsTest, StopsAtTheMaximum) {
  ReferenceCounts counts(3);
  const ClusterIndex cluster(77);
  EXPECT_EQ(counts.Add(cluster, 2), 0u);
  EXPECT_EQ(counts.Add(cluster, 5), 4u);
  EXPECT_EQ(counts.Get(cluster), 3u);
  EXPECT_EQ(counts.Add(cluster, 1), 1u);
}

TEST(ReferenceCountsTest, CountsUpTo64Bits) {
  ReferenceCounts counts(~uint64_t{0});
  const ClusterIndex cluster((uint64_t{1} << 54) - 1);
  EXPECT_EQ(counts.Add(cluster, ~uint64_t{0} - 1), 0u);
  EXPECT_EQ(counts.Add(cluster, 3), 2u);
  EXPECT_EQ(counts.Get(cluster), ~uint64_t{0});
  EXPECT_EQ(counts.Get(cluster - 1), 0u);
}

TEST(ReferenceCountsTest, FindsTheNextCounted) {
  ReferenceCounts counts(100);
  for (const uint64_t cluster : {5, 255, 256, 1000000}) counts.Add(ClusterIndex(cluster), 1);
  std::vector<uint64_t> found;
  std::optional<ClusterIndex> next = counts.NextCounted(ClusterIndex(0));
  for (; next; next = counts.NextCounted(*next + 1)) found.push_back(next->value());
  EXPECT_EQ(found, (std::vector<uint64_t>{5, 255, 256, 1000000}));
  counts.Set(ClusterIndex(255), 0);
  EXPECT_EQ(counts.NextCounted(ClusterIndex(6)), ClusterIndex(256));
}

TEST(ReferenceCountsTest, CountsLikeAMap) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  ReferenceCounts counts(70000);
  std::map<uint64_t, uint64_t> expected;
  for (int i = 0; i < 100000; ++i) {
    const uint64_t cluster = random() % 3000 * (random() % 2 == 0 ? 1 : 1000003);
    uint64_t& count = expected[cluster];
    if (random() % 4 == 0 && count != 0) {
      count = random() % 600;
      counts.Set(ClusterIndex(cluster), count);
    } else {
      const uint64_t added = random() % 200;
      count += added;
      ASSERT_EQ(counts.Add(ClusterIndex(cluster), added), 0u);
    }
  }
  for (const auto& [cluster, count] : expected) {
    ASSERT_EQ(counts.Get(ClusterIndex(cluster)), count) << cluster;
  }
}

}  // namespace
}  // namespace ringcow
