#include "qcow2/blkdebug/options.h"

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

using ::testing::HasSubstr;

TEST(OptionsTest, ReadsAConfigFile) {
  const absl::StatusOr<DebugRules> rules = ParseDebugConfig(
      "# what fails\n"
      "[inject-error]\n"
      "event = \"l2_load\"\n"
      "\n"
      "  errno =\"28\"\n"
      "[set-state \"again\"]\n"
      "\tevent = \"write_aio\"\n"
      "new_state = \"0x2\"\n"
      "[inject-error]\n"
      "event = \"none\"\n"
      "event = \"write_aio\"\n"
      "state = \"2\"\n"
      "iotype = \"write-zeroes\"\n"
      "sector = \"3\"\n"
      "once = \"on\"\n"
      "immediately = \"on\"");
  ASSERT_TRUE(rules.ok()) << rules.status();
  ASSERT_EQ(rules->inject_errors.size(), 2U);
  const InjectError& plain = rules->inject_errors[0];
  EXPECT_EQ(plain.event, DebugEvent::kL2Load);
  EXPECT_EQ(plain.state, 0U);
  EXPECT_EQ(plain.error, ENOSPC);
  EXPECT_EQ(plain.io, std::nullopt);
  EXPECT_EQ(plain.offset, std::nullopt);
  EXPECT_FALSE(plain.once);
  EXPECT_FALSE(plain.immediately);
  const InjectError& full = rules->inject_errors[1];
  EXPECT_EQ(full.event, DebugEvent::kWriteAio);
  EXPECT_EQ(full.state, 2U);
  EXPECT_EQ(full.error, EIO);
  EXPECT_EQ(full.io, DebugIo::kWriteZeroes);
  EXPECT_EQ(full.offset, 1536U);
  EXPECT_TRUE(full.once);
  EXPECT_TRUE(full.immediately);
  ASSERT_EQ(rules->set_states.size(), 1U);
  EXPECT_EQ(rules->set_states[0].event, DebugEvent::kWriteAio);
  EXPECT_EQ(rules->set_states[0].new_state, 2U);
}

TEST(OptionsTest, RefusesConfigFilesInQemusWords) {
  const std::string rule = "[inject-error]\nevent = \"none\"\n";
  const std::pair<std::string, std::string> cases[] = {
      {"event = \"none\"\n", "no group defined"},
      {"[foo]\n", "There is no option group 'foo'"},
      {"[a b c]\n", "There is no option group 'a b c'"},
      {"[inject-error]\n[set-state]\n", "Missing event name for rule"},
      {"[inject-error]\nevent = \"bogus\"\n", "invalid parameter value: bogus"},
      {"[inject-error]\nevent = none\n", "invalid parameter value: "},
      {"[inject-error]\nevent = \"none", "parse error"},
      {"[inject-error]\n= \"none\"\n", "Invalid parameter '='"},
      {rule + "iotype = \"x\"\n", "invalid parameter value: x"},
      {rule + "foo = \"x\"\n", "Invalid parameter 'foo'"},
      {rule + "once=\"on\"\n", "Invalid parameter 'once=\"on\"'"},
      {rule + "garbage\n", "Invalid parameter 'garbage'"},
      {rule + "new_state = \"1\"\n", "Invalid parameter 'new_state'"},
      {rule + "state = \"x\"\n", "Parameter 'state' expects a number"},
      {rule + "errno = 5\n", "Parameter 'errno' expects a number"},
      {rule + "sector = \"1k\"\n", "Parameter 'sector' expects a number"},
      {rule + "sector = \"0x\"\n", "Parameter 'sector' expects a number"},
      {rule + "once = \"x\"\n", "Parameter 'once' expects 'on' or 'off'"},
      {rule + "immediately = \"\"\n", "Parameter 'immediately' expects 'on' or 'off'"},
      {rule + "state = \"99999999999999999999999\"\n",
       "Value '99999999999999999999999' is too large for parameter 'state'"},
      {"[set-state]\nevent = \"none\"\nerrno = \"1\"\n", "Invalid parameter 'errno'"},
  };
  for (const auto& [text, expected] : cases) {
    const absl::StatusOr<DebugRules> rules = ParseDebugConfig(text);
    EXPECT_TRUE(absl::IsInvalidArgument(rules.status())) << text;
    EXPECT_EQ(rules.status().message(), expected) << text;
  }
}

TEST(OptionsTest, RefusesWhatCannotComeAbout) {
  const auto unknown = ParseDebugConfig("[inject-error]\nevent = \"refblock_update\"\n");
  EXPECT_TRUE(absl::IsUnimplemented(unknown.status())) << unknown.status();
  // A request that ends with it is tried again.
  const std::string again = "[inject-error]\nevent = \"none\"\nerrno = \"11\"\n";
  EXPECT_THAT(std::string(ParseDebugConfig(again).status().message()), HasSubstr("once"));
  EXPECT_TRUE(ParseDebugConfig(absl::StrCat(again, "once = \"on\"\n")).ok());
}

absl::StatusOr<BlkdebugOptions> Take(std::map<std::string, std::string> options) {
  ImageDescription description(std::move(options));
  return TakeBlkdebugOptions(description);
}

TEST(OptionsTest, TakesRulesFromOptions) {
  ImageDescription description({{"config", "c"},
                                {"inject-error.1.event", "none"},
                                {"inject-error.0.event", "l2_load"},
                                {"inject-error.0.errno", "28"},
                                {"set-state.event", "none"},
                                {"max-transfer", "64k"},
                                {"image.filename", "x"}});
  const absl::StatusOr<BlkdebugOptions> taken = TakeBlkdebugOptions(description);
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->config, "c");
  ASSERT_EQ(taken->rules.inject_errors.size(), 2U);
  EXPECT_EQ(taken->rules.inject_errors[0].error, ENOSPC);
  EXPECT_EQ(taken->rules.inject_errors[1].event, DebugEvent::kNone);
  EXPECT_EQ(taken->rules.set_states.size(), 1U);
  EXPECT_EQ(taken->limits.max_transfer, 65536U);
  EXPECT_EQ(taken->given.size(), 5U);
  EXPECT_EQ(description.options().size(), 1U);
}

TEST(OptionsTest, RefusesOptionsInQemusWords) {
  const std::pair<std::map<std::string, std::string>, std::string> cases[] = {
      {{{"inject-error.0.event", "x"}}, "invalid parameter value: x"},
      {{{"inject-error.0.state", "1"}}, "Missing event name for rule"},
      {{{"inject-error.0.event", "none"}, {"inject-error.0.foo", "1"}},
       "[inject-error] section doesn't support the option 'foo'"},
      {{{"set-state.0.event", "none"}, {"set-state.2.event", "none"}},
       "Unused option '2.event' for [set-state]"},
      {{{"inject-error.foo.event", "none"}}, "Unused option 'foo.event' for [inject-error]"},
  };
  for (const auto& [options, expected] : cases) {
    EXPECT_EQ(Take(options).status().message(), expected);
  }
}

TEST(OptionsTest, RefusesLimitsThatNoRequestMeets) {
  const std::pair<DebugLimits, std::string> cases[] = {
      {{.align = 3}, "align 3"},
      {{.align = uint64_t{1} << 32}, "align 4294967296"},
      {{.max_transfer = 3'000'000'000}, "max-transfer 3000000000"},
      {{.align = 512, .max_transfer = 100}, "max-transfer 100"},
      {{.align = 512, .opt_write_zero = 1000}, "opt-write-zero 1000"},
      {{.opt_write_zero = 4096, .max_write_zero = 512}, "max-write-zero 512"},
      {{.align = 512, .opt_discard = 100}, "opt-discard 100"},
      {{.opt_discard = 4096, .max_discard = 512}, "max-discard 512"},
  };
  for (const auto& [limits, expected] : cases) {
    EXPECT_EQ(limits.Validate(1).message(),
              absl::StrCat("Cannot meet constraints with ", expected));
  }
  EXPECT_TRUE(DebugLimits{.max_transfer = 1000}.Validate(1).ok());
  EXPECT_FALSE(DebugLimits{.max_transfer = 1000}.Validate(512).ok());
  EXPECT_TRUE((DebugLimits{.opt_discard = 15, .max_discard = 30}.Validate(1).ok()));
}

TEST(OptionsTest, PiecesEndWhereUnitsDo) {
  EXPECT_EQ(FirstPiece(5, 100, 10, 0), 5U);
  EXPECT_EQ(FirstPiece(5, 3, 10, 0), 3U);
  EXPECT_EQ(FirstPiece(10, 95, 10, 0), 90U);
  EXPECT_EQ(FirstPiece(10, 95, 10, 30), 30U);
  EXPECT_EQ(FirstPiece(100, 5, 10, 30), 5U);
  EXPECT_EQ(FirstPiece(100, 500, 1, 0), 500U);
}

TEST(OptionsTest, AConfigFileHasToBeThere) {
  const absl::StatusOr<DebugRules> rules = LoadDebugRules({.config = "/does/not/exist"});
  EXPECT_EQ(rules.status().message(),
            "Could not read blkdebug config file: No such file or directory");
}

}  // namespace
}  // namespace ringcow
