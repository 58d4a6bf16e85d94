// `commit`, side by side with qemu-img on the same chains.

#include <chrono>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

class CommitTest : public testing::Test {
 protected:
  // "base" <- "mid" <- "top", each longer than the one before, in both directories.
  void MakeChain(const std::string& base_format) {
    RunBoth({"qemu-img", "create", "-q", "-f", base_format, "base", "2M"});
    RunBoth({"qemu-io", "-f", base_format, "-c", "write -P 1 0 256k", "base"});
    RunBoth(
        {"qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", base_format, "mid", "3M"});
    RunBoth({"qemu-io", "-c", "write -P 2 64k 64k", "-c", "write -z 0 64k", "mid"});
    RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "-b", "mid", "-F", "qcow2", "top", "4M"});
    RunBoth({"qemu-io", "-c", "write -P 3 128k 64k", "-c", "write -P 4 3500k 64k", "-c",
             "write -z 1M 100k", "-c", "discard 192k 64k", "top"});
  }

  void RunBoth(const Words& words) {
    for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
      ASSERT_EQ(Qemu(scratch->path(), words).status, 0) << testing::PrintToString(words);
    }
  }

  void ExpectSame(const Words& arguments) {
    Words words = {"qemu-img", "commit"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    SCOPED_TRACE(testing::PrintToString(words));
    EXPECT_EQ(Ringcow(ours_.path(), words), Qemu(theirs_.path(), words));
  }

  // Every layer holds the same, and is clean.
  void ExpectSameChains(const std::string& base_format) {
    for (const std::string name : {"base", "mid", "top"}) {
      const std::string format = name == "base" ? base_format : "qcow2";
      const Outcome compared = Qemu("/", {"qemu-img", "compare", "-s", "-f", format, "-F", format,
                                          ours_.File(name), theirs_.File(name)});
      EXPECT_EQ(compared.status, 0) << name << compared;
      if (format == "qcow2") {
        EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", name}).status, 0) << name;
      }
    }
  }

  const ScratchDirectory ours_;
  const ScratchDirectory theirs_;
};

TEST_F(CommitTest, CommitsToAnyBackingFile) {
  for (const char* base_format : {"qcow2", "raw"}) {
    for (const Words& arguments : std::vector<Words>{{"top"},
                                                     {"-q", "top"},
                                                     {"-d", "top"},
                                                     {"-r", "1G", "top"},
                                                     {"-b", "base", "top"},
                                                     {"-b", "./mid", "-t", "none", "top"}}) {
      MakeChain(base_format);
      ExpectSame(arguments);
      ExpectSameChains(base_format);
    }
  }
}

TEST_F(CommitTest, KeepsToARate) {
  RunBoth({"qemu-img", "create", "-q", "-f", "raw", "base", "4M"});
  RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "raw", "top"});
  RunBoth({"qemu-io", "-c", "write -P 1 0 4M", "top"});
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(Ringcow(ours_.path(), {"qemu-img", "commit", "-r", "8M", "top"}).status, 0);
  // All but the last of them has to have had its time.
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(100));
  for (const char* rate : {"x", "-1", "9E"}) ExpectSame({"-r", rate, "top"});
}

TEST_F(CommitTest, LeavesNothingInTheImage) {
  MakeChain("qcow2");
  ASSERT_EQ(Ringcow(ours_.path(), {"qemu-img", "commit", "top"}).status, 0);
  const Outcome map = Qemu(ours_.path(), {"qemu-img", "map", "--output=json", "top"});
  EXPECT_EQ(map.out.find("\"depth\": 0, \"present\": true"), std::string::npos) << map;
}

TEST_F(CommitTest, KeepsSnapshots) {
  MakeChain("qcow2");
  RunBoth({"qemu-img", "snapshot", "-c", "s", "top"});
  ExpectSame({"top"});
  ExpectSameChains("qcow2");
  RunBoth({"qemu-img", "snapshot", "-a", "s", "top"});
  ExpectSameChains("qcow2");
}

TEST_F(CommitTest, ComplainsInTheSameWords) {
  MakeChain("qcow2");
  for (const Words& arguments : std::vector<Words>{{"base"},
                                                   {},
                                                   {"a", "b"},
                                                   {"missing"},
                                                   {"-b", "missing", "top"},
                                                   {"-b", "top", "top"},
                                                   {"-f", "raw", "top"},
                                                   {"-f", "bogus", "top"},
                                                   {"-t", "bogus", "top"}}) {
    ExpectSame(arguments);
  }
  ExpectSameChains("qcow2");
}

}  // namespace
}  // namespace ringcow
