// The command lines of the README, as they stand there.

#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

// At blanks, but for those between apostrophes.
Words WordsOf(const std::string& line) {
  Words words;
  bool is_quoted = false;
  for (const absl::string_view part : absl::StrSplit(line, '\'')) {
    if (is_quoted) {
      words.emplace_back(part);
    } else {
      const Words more = absl::StrSplit(part, ' ', absl::SkipEmpty());
      words.insert(words.end(), more.begin(), more.end());
    }
    is_quoted = !is_quoted;
  }
  return words;
}

std::vector<Words> Examples() {
  std::vector<Words> examples;
  std::istringstream readme(ReadBytes("README.md"));
  for (std::string line; std::getline(readme, line);) {
    if (absl::string_view rest = line; absl::ConsumePrefix(&rest, "    ringcow ")) {
      examples.push_back(WordsOf(line));
    }
  }
  return examples;
}

TEST(Readme, CommandsDoWhatTheySay) {
  const std::vector<Words> examples = Examples();
  EXPECT_GT(examples.size(), 10U);
  const ScratchDirectory directory;
  for (const Words& words : examples) {
    const Outcome outcome =
        RunTool({.maker = Maker::kRingcow, .words = words, .directory = directory.path()});
    EXPECT_EQ(outcome.status, 0) << testing::PrintToString(words) << outcome;
  }
  for (const std::string& image : directory.List()) {
    const Outcome check = Qemu(directory.path(), {"qemu-img", "check", image});
    EXPECT_EQ(check.status, 0) << image << check;
  }
}

}  // namespace
}  // namespace ringcow
