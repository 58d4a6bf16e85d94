#include "tests/explorer/script.h"

#include <cstddef>
#include <map>
#include <string>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

TEST(Script, FollowsFromTheSeedAndStaysInTheDisk) {
  for (const Scenario& scenario : AllScenarios()) {
    SCOPED_TRACE(scenario.name);
    const Script script = MakeScript(scenario);
    EXPECT_EQ(ToString(script), ToString(MakeScript(scenario)));
    EXPECT_NE(ToString(script), ToString(MakeScript(WithSeed(scenario, 2))));
    EXPECT_EQ(script.size(), scenario.workers * scenario.steps);
    std::map<uint64_t, size_t> owners;  // of units
    for (const Step& step : script) {
      EXPECT_LE(step.range.count, step.operation->max_units);
      EXPECT_LE(step.range.first + step.range.count, scenario.units());
      for (uint64_t i = 0; i < step.range.count; ++i) {
        const auto owner = owners.emplace(step.range.first + i, step.worker).first;
        EXPECT_EQ(owner->second, step.worker) << "unit " << owner->first;
      }
    }
  }
}

TEST(Script, IsReadAsItIsWritten) {
  for (const Scenario& scenario : AllScenarios()) {
    const std::string text = ToString(MakeScript(scenario));
    const absl::StatusOr<Script> script = ParseScript(text, scenario.units());
    ASSERT_TRUE(script.ok()) << script.status();
    EXPECT_EQ(ToString(*script), text);
  }
  const absl::StatusOr<Script> script = ParseScript("0:write@12+4  1:flush", 16);
  ASSERT_TRUE(script.ok()) << script.status();
  ASSERT_EQ(script->size(), 2U);
  EXPECT_EQ((*script)[0].operation, &kWrite);
  EXPECT_EQ((*script)[0].range.first, 12U);
  EXPECT_EQ((*script)[0].range.count, 4U);
  EXPECT_EQ((*script)[1].worker, 1U);
  EXPECT_EQ((*script)[1].operation, &kFlush);
}

TEST(Script, RefusesWhatIsNone) {
  for (const char* text : {"write@0+1", "x:write@0+1", "0:wrote@0+1", "0:write", "0:write@0",
                           "0:write@0+0", "0:write@0+17", "0:write@16+1",
                           "0:write@18446744073709551615+1", "0:write@1+18446744073709551615"}) {
    EXPECT_FALSE(ParseScript(text, 16).ok()) << text;
  }
}

}  // namespace
}  // namespace ringcow
