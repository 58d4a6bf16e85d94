#include "bench/targets.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bench/description.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

TEST(TargetsTest, EachIsACaseOfItsOwn) {
  const std::vector<Case> cases = TargetCases({});
  ASSERT_EQ(cases.size(), Targets().size());
  std::set<std::string> words;
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_EQ(cases[i].workload.name, Targets()[i].workload);
    EXPECT_EQ(cases[i].depth, Targets()[i].depth);
    words.insert(Describe(cases[i].workload));
  }
  EXPECT_EQ(words.size(), cases.size()) << "descriptions tell them apart";
}

Row RowFor(const std::string& workload, std::map<std::string, double> figures) {
  for (const Case& a_case : TargetCases({})) {
    if (a_case.workload.name == workload) return {a_case, std::move(figures)};
  }
  ADD_FAILURE() << workload;
  return {};
}

bool IsMet(const std::vector<CountTarget>& counts, const std::string& what) {
  const auto found = std::find_if(counts.begin(), counts.end(), [&](const CountTarget& count) {
    return count.what.starts_with(what);
  });
  EXPECT_NE(found, counts.end()) << what;
  return found != counts.end() && found->is_met();
}

TEST(TargetsTest, CountsAreJudged) {
  const std::vector<CountTarget> good =
      CountTargets({RowFor("scattered_4k/flush:1", {{"fsyncs_per_flush", 1.001},
                                                    {"metadata_written_bytes_per_flush", 4300}}),
                    RowFor("after_snapshot_4k", {{"fsyncs_per_op", 0.02},
                                                 {"metadata_written_bytes_per_op", 1024},
                                                 {"enters_per_op", 0.125},
                                                 {"steady_heap_allocations_per_op", 0}})});
  EXPECT_EQ(good.size(), 6U);
  for (const CountTarget& count : good) EXPECT_TRUE(count.is_met()) << count.what;

  const std::vector<CountTarget> bad =
      CountTargets({RowFor("scattered_4k/flush:1",
                           {{"fsyncs_per_flush", 2}, {"metadata_written_bytes_per_flush", 131072}}),
                    RowFor("after_snapshot_4k", {{"fsyncs_per_op", 0.021},
                                                 {"metadata_written_bytes_per_op", 1024},
                                                 {"enters_per_op", 0.126},
                                                 {"steady_heap_allocations_per_op", 1}})});
  EXPECT_FALSE(IsMet(bad, "fsyncs per guest flush"));
  EXPECT_FALSE(IsMet(bad, "bytes of metadata per guest flush"));
  EXPECT_FALSE(IsMet(bad, "fsyncs per written cluster"));
  EXPECT_TRUE(IsMet(bad, "bytes of metadata per written cluster"));
  EXPECT_FALSE(IsMet(bad, "enters per request"));
  EXPECT_FALSE(IsMet(bad, "heap allocations per steady request"));
}

}  // namespace
}  // namespace ringcow
