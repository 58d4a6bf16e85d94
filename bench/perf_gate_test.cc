#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "bench/baseline.h"
#include "bench/heap_allocations.h"
#include "bench/subprocess.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr char kOnFile[] = "scattered_4k/flush:1/qd:1";
constexpr char kUnderCallgrind[] = "cpu/scattered_4k/flush:1/qd:1";

// Valgrind cannot run a program that has a sanitizer in it.
bool HasCallgrind() { return kCountsHeapAllocations; }

class PerfGateTest : public testing::Test {
 protected:
  SubprocessResult Run(const std::string& scenario, std::vector<std::string> flags = {}) {
    std::vector<std::string> command = {"bench/perf_gate", "--instructions=bench/instructions",
                                        absl::StrCat("--dir=", testing::TempDir()),
                                        absl::StrCat("--baseline=", path_),
                                        absl::StrCat("--only=", scenario)};
    command.insert(command.end(), flags.begin(), flags.end());
    const auto result = RunSubprocess(command);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.value_or(SubprocessResult());
  }

  Costs Read() const {
    std::ifstream file(path_);
    const auto costs = ParseCosts(std::string{std::istreambuf_iterator<char>(file), {}});
    EXPECT_TRUE(costs.ok()) << costs.status();
    return costs.value_or(Costs());
  }
  void Write(const Costs& costs) const {
    std::ofstream(path_, std::ios::trunc) << FormatCosts(costs);
  }

  const std::string path_ = absl::StrCat(
      testing::TempDir(), "/", testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(PerfGateTest, PassesWhatItAccepted) {
  const SubprocessResult none = Run(kOnFile);
  EXPECT_EQ(none.exit_code, 2) << none.output;
  EXPECT_TRUE(absl::StrContains(none.output, "there is no baseline")) << none.output;

  EXPECT_EQ(Run(kOnFile, {"--accept"}).exit_code, 0);
  const SubprocessResult again = Run(kOnFile);
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_TRUE(absl::EndsWith(again.output, " passed, 0 failed\n")) << again.output;
}

// The negative control: with a baseline that is a little better, the engine is worse.
TEST_F(PerfGateTest, FailsAndNamesTheCountThatIsWorse) {
  ASSERT_EQ(Run(kOnFile, {"--accept"}).exit_code, 0);
  Costs doctored = Read();
  doctored[kOnFile]["fsyncs_per_op"] -= 0.01;
  Write(doctored);
  const SubprocessResult result = Run(kOnFile);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_TRUE(absl::StrContains(result.output, "fsyncs_per_op")) << result.output;
  EXPECT_TRUE(absl::StrContains(result.output, "WORSE")) << result.output;
  EXPECT_TRUE(absl::EndsWith(result.output, " passed, 1 failed\n")) << result.output;
}

TEST_F(PerfGateTest, CountsInstructionsAndNamesThemToo) {
  if (!HasCallgrind()) GTEST_SKIP() << "under a sanitizer";
  ASSERT_EQ(Run(kOnFile, {"--accept"}).exit_code, 0);
  ASSERT_EQ(Run(kUnderCallgrind, {"--accept"}).exit_code, 0);
  Costs doctored = Read();
  EXPECT_EQ(doctored.size(), 2U) << "what was not measured is still in it";
  doctored[kUnderCallgrind]["instructions_per_op"] *= 0.99;
  Write(doctored);
  const SubprocessResult tolerated = Run(kUnderCallgrind);
  EXPECT_EQ(tolerated.exit_code, 0) << tolerated.output;

  doctored[kUnderCallgrind]["instructions_per_op"] *= 0.98;
  Write(doctored);
  const SubprocessResult worse = Run(kUnderCallgrind);
  EXPECT_EQ(worse.exit_code, 1);
  EXPECT_TRUE(absl::StrContains(worse.output, "instructions_per_op")) << worse.output;
  EXPECT_TRUE(absl::EndsWith(worse.output, " passed, 1 failed\n")) << worse.output;
}

TEST_F(PerfGateTest, MentionsWhatBecameBetterAndPasses) {
  ASSERT_EQ(Run(kOnFile, {"--accept"}).exit_code, 0);
  Costs doctored = Read();
  doctored[kOnFile]["fsyncs_per_op"] += 1;
  Write(doctored);
  const SubprocessResult result = Run(kOnFile);
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_TRUE(absl::StrContains(result.output, "better")) << result.output;
}

TEST_F(PerfGateTest, SaysWhatItDoesNotKnow) {
  Write({});
  const SubprocessResult unknown = Run("no such scenario");
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_TRUE(absl::StrContains(unknown.output, "no scenario is called")) << unknown.output;
  const SubprocessResult is_new = Run(kOnFile);
  EXPECT_EQ(is_new.exit_code, 1);
  EXPECT_TRUE(absl::StrContains(is_new.output, "NOT IN THE BASELINE")) << is_new.output;
  const SubprocessResult flag = Run(kOnFile, {"--nonsense"});
  EXPECT_EQ(flag.exit_code, 2);
  EXPECT_TRUE(absl::StrContains(flag.output, "unknown flag --nonsense")) << flag.output;
}

}  // namespace
}  // namespace ringcow
