#include "bench/flags.h"

#include <set>
#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

TEST(FlagsTest, TakesOursAndLeavesTheOthers) {
  std::vector<std::string> arguments = {"--vs-qemu",
                                        "--benchmark_out=x.json",
                                        "--dir",
                                        "/tmp/a=b",
                                        "--filter=scattered.*qd:1/",
                                        "--ops=100",
                                        "--seconds=0.5",
                                        "--qd=1,32",
                                        "--plan=chain,stages",
                                        "--targets",
                                        "--report=x.html",
                                        "--v=2"};
  const auto flags = ParseFlags(arguments);
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_TRUE(flags->vs_qemu);
  EXPECT_FALSE(flags->all);
  EXPECT_TRUE(flags->targets);
  EXPECT_EQ(flags->report, "x.html");
  EXPECT_EQ(flags->dir, "/tmp/a=b");
  EXPECT_EQ(flags->filter, "scattered.*qd:1/");
  EXPECT_EQ(flags->time_limit, std::chrono::milliseconds(500));
  EXPECT_EQ(flags->catalog.requests, 100U);
  EXPECT_EQ(flags->catalog.depths, (std::vector<uint32_t>{1, 32}));
  EXPECT_EQ(flags->catalog.forms, (std::vector<PlanForm>{PlanForm::kChain, PlanForm::kStages}));
  EXPECT_EQ(arguments, (std::vector<std::string>{"--benchmark_out=x.json", "--v=2"}));
}

TEST(FlagsTest, RefusesWhatItDoesNotKnow) {
  for (const char* argument :
       {"image.qcow2", "--nonsense", "--nonsense=1", "--ops=0", "--ops=-1", "--ops=1e3", "--ops",
        "--qd=", "--qd=1,", "--qd=5000", "--seconds=0", "--seconds=nan", "--mode=none", "--report",
        "--report=", "--plan=chain,", "--without=speed", "--all=1"}) {
    std::vector<std::string> arguments = {argument};
    const auto flags = ParseFlags(arguments);
    EXPECT_EQ(flags.status().code(), absl::StatusCode::kInvalidArgument) << argument;
  }
}

TEST(CatalogTest, HasEveryWorkloadAtEachDepthInBothModes) {
  const std::vector<Case> matrix = FullMatrix({});
  std::set<std::string> names;
  for (const Case& a_case : matrix) names.insert(a_case.name);
  EXPECT_EQ(names.size(), matrix.size()) << "names are unique";
  for (const Workload& workload : AllWorkloads()) {
    for (const char* depth : {"1", "16", "64"}) {
      for (const char* mode : {"writeback", "writethrough"}) {
        EXPECT_TRUE(names.contains(workload.name + "/qd:" + depth + "/" + mode)) << workload.name;
      }
    }
  }
  for (const Case& a_case : ShortList({})) EXPECT_TRUE(names.contains(a_case.name)) << a_case.name;
}

TEST(CatalogTest, RunsEachCaseOnceForEachForm) {
  CatalogOptions options;
  options.forms = {PlanForm::kChain, PlanForm::kStages};
  const std::vector<Case> cases = ShortList(options);
  EXPECT_EQ(cases.size(), 2 * ShortList({}).size());
  EXPECT_EQ(cases[0].open_options.write_back.form, PlanForm::kChain);
  EXPECT_EQ(cases[1].open_options.write_back.form, PlanForm::kStages);
  EXPECT_EQ(cases[0].workload.name, cases[1].workload.name);
}

TEST(CatalogTest, RunsEachCaseWithAndWithout) {
  std::vector<std::string> arguments = {"--without=reserve,early"};
  const absl::StatusOr<Flags> flags = ParseFlags(arguments);
  ASSERT_TRUE(flags.ok()) << flags.status();
  std::vector<Case> cases;
  AddCases(cases, "scattered_4k", 32, CacheMode::kWriteback, flags->catalog);
  ASSERT_EQ(cases.size(), 3U);
  EXPECT_EQ(cases[0].remark, "");
  EXPECT_TRUE(cases[0].open_options.reserve_refcounts);
  EXPECT_TRUE(cases[0].open_options.enter_zero_clusters_early);
  EXPECT_EQ(cases[1].name, "scattered_4k/qd:32/writeback/without:reserve");
  EXPECT_FALSE(cases[1].open_options.reserve_refcounts);
  EXPECT_TRUE(cases[1].open_options.enter_zero_clusters_early);
  EXPECT_EQ(cases[2].remark, "without:early");
  EXPECT_FALSE(cases[2].open_options.enter_zero_clusters_early);
}

TEST(CatalogTest, RequestsFitTheirImages) {
  for (const Case& a_case : FullMatrix({})) {
    const Workload& workload = a_case.workload;
    EXPECT_LE(workload.image_bytes,
              workload.start == Workload::Start::kCold ? uint64_t{1} << 40 : uint64_t{1} << 30);
    EXPECT_GE(workload.requests, 64U);
    for (const GuestOp& op : MakeOps(workload)) {
      ASSERT_LE(op.offset.value() + op.length, workload.image_bytes) << a_case.name;
    }
  }
}

}  // namespace
}  // namespace ringcow
