#include "bench/barrier.h"

#include <string>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr uint32_t kBarriers = 4;

class BarrierTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    path_ = testing::TempDir() + "/barrier";
    const absl::Status prepared = PrepareBarrierFile(path_);
    ASSERT_TRUE(prepared.ok()) << prepared;
  }
  static BarrierRun Run(const BarrierCase& a_case, uint32_t barriers = kBarriers) {
    const absl::StatusOr<BarrierRun> run = RunBarriers(path_, a_case, barriers, 0.01);
    EXPECT_TRUE(run.ok()) << run.status();
    return run.value_or(BarrierRun());
  }

  static inline std::string path_;
};

// What makes the forms comparable, and each what it says it is.
TEST_F(BarrierTest, EachFormWritesTheSameInItsOwnWay) {
  for (const uint32_t tables : {1, 3}) {
    for (const PlanForm form : {PlanForm::kChain, PlanForm::kStages, PlanForm::kDurable}) {
      for (const Lane lane : {Lane::kMetadata, Lane::kData}) {
        BarrierCase a_case;
        a_case.options.form = form;
        a_case.options.chain_lane = lane;
        a_case.options.merge_gap = 0;
        a_case.tables = tables;
        const BarrierRun run = Run(a_case);
        EXPECT_EQ(run.writes, 2 * tables);
        EXPECT_EQ(run.metadata_bytes, 2 * 512 * tables);
        EXPECT_EQ(run.fsyncs, form == PlanForm::kDurable ? 1 : 2);
        EXPECT_EQ(run.stream_rate, 0);
        EXPECT_GT(run.median_us, 0);
      }
    }
  }
}

TEST_F(BarrierTest, AGapIsWrittenWithTheChangesWhereThatIsAllowed) {
  for (const uint64_t gap : {0, 65536}) {
    BarrierCase a_case;
    a_case.options.merge_gap = gap;
    a_case.tables = 2;
    a_case.distance = 8;
    a_case.one_stage = true;
    const BarrierRun run = Run(a_case);
    EXPECT_EQ(run.writes, gap == 0 ? 2 : 1);
    EXPECT_EQ(run.metadata_bytes, gap == 0 ? 1024 : 8 * 4096 + 512);
    EXPECT_EQ(run.fsyncs, 1);
  }
}

TEST_F(BarrierTest, TheStreamRunsBesideBarriersAndAlone) {
  BarrierCase a_case;
  a_case.with_stream = true;
  EXPECT_GT(Run(a_case).stream_rate, 0);
  const BarrierRun alone = Run(a_case, 0);
  EXPECT_GT(alone.stream_rate, 0);
  EXPECT_EQ(alone.fsyncs, 0);
}

}  // namespace
}  // namespace ringcow
