#include "bench/latency_histogram.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

using std::chrono::nanoseconds;

TEST(LatencyHistogramTest, IsZeroWhenEmpty) {
  EXPECT_EQ(LatencyHistogram().Percentile(99), nanoseconds(0));
}

TEST(LatencyHistogramTest, IsExactForSmallValues) {
  LatencyHistogram histogram;
  for (int i = 1; i <= 100; ++i) histogram.Record(nanoseconds(i));
  EXPECT_EQ(histogram.Percentile(0.1), nanoseconds(1));
  EXPECT_EQ(histogram.Percentile(1), nanoseconds(1));
  EXPECT_EQ(histogram.Percentile(50), nanoseconds(50));
  EXPECT_EQ(histogram.Percentile(99), nanoseconds(99));
  EXPECT_EQ(histogram.Percentile(99.9), nanoseconds(100));
  EXPECT_EQ(histogram.Percentile(100), nanoseconds(100));
}

TEST(LatencyHistogramTest, AgreesWithASortedListToWithinABucket) {
  const uint32_t seed = 7;
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> distribution(11, 2);  // about 60 us, with a long tail
  LatencyHistogram histogram;
  std::vector<int64_t> values;
  for (int i = 0; i < 20000; ++i) {
    values.push_back(static_cast<int64_t>(distribution(random)));
    histogram.Record(nanoseconds(values.back()));
  }
  std::sort(values.begin(), values.end());

  for (const double percent : {1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0}) {
    const auto rank = static_cast<size_t>(std::ceil(percent / 100 * 20000)) - 1;
    const int64_t got = histogram.Percentile(percent).count();
    EXPECT_GE(got, values[rank]) << percent;
    EXPECT_LE(got, values[rank] + values[rank] / 64 + 1) << percent;
  }
  EXPECT_EQ(histogram.max().count(), values.back());
  EXPECT_EQ(histogram.count(), 20000U);
}

TEST(LatencyHistogramTest, TakesTheExtremes) {
  LatencyHistogram histogram;
  histogram.Record(nanoseconds(-5));
  EXPECT_EQ(histogram.Percentile(100), nanoseconds(0));
  const nanoseconds largest = nanoseconds::max();
  histogram.Record(largest);
  EXPECT_EQ(histogram.Percentile(100), largest);
}

TEST(LatencyHistogramTest, NoValueFallsBetweenBuckets) {
  for (int shift = 0; shift < 63; ++shift) {
    for (const int64_t step : {-1, 0, 1}) {
      const int64_t value = (int64_t{1} << shift) + step;
      LatencyHistogram histogram;
      histogram.Record(nanoseconds(value));
      histogram.Record(nanoseconds::max());
      const int64_t got = histogram.Percentile(50).count();
      EXPECT_GE(got, value);
      EXPECT_LE(got - value, value / 64);
    }
  }
}

}  // namespace
}  // namespace ringcow
