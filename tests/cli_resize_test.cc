// `resize`, side by side with qemu-img on copies of one image.

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

class ResizeTest : public testing::Test {
 protected:
  // In both directories.
  void Make(const std::string& name, const Words& options) {
    for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
      Words words = {"qemu-img", "create", "-q"};
      words.insert(words.end(), options.begin(), options.end());
      words.insert(words.end(), {name, "4M"});
      ASSERT_EQ(Qemu(scratch->path(), words).status, 0);
      ASSERT_EQ(Qemu(scratch->path(), {"qemu-io", "-c", "write -P 1 1M 3M", name}).status, 0);
    }
  }

  void ExpectSame(const Words& arguments) {
    Words words = {"qemu-img", "resize"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    SCOPED_TRACE(testing::PrintToString(words));
    EXPECT_EQ(Ringcow(ours_.path(), words), Qemu(theirs_.path(), words));
  }

  void ExpectSameDisks(const std::string& format, const std::string& name) {
    const Outcome compared = Qemu("/", {"qemu-img", "compare", "-f", format, "-F", format,
                                        ours_.File(name), theirs_.File(name)});
    EXPECT_EQ(compared.status, 0) << compared;
    if (format != "qcow2") return;
    EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", name}).status, 0) << name;
  }

  const ScratchDirectory ours_;
  const ScratchDirectory theirs_;
};

TEST_F(ResizeTest, GrowsAndShrinks) {
  for (const char* options :
       {"cluster_size=64k", "cluster_size=512", "compat=0.10", "cluster_size=64k,extended_l2=on"}) {
    Make("a", {"-f", "qcow2", "-o", options});
    for (const Words& arguments : std::vector<Words>{{"a", "8M"},
                                                     {"a", "+1M"},
                                                     {"a", "-1M"},
                                                     {"--shrink", "a", "-1M"},
                                                     {"--shrink", "a", "--", "-1M"},
                                                     {"a", "-3M", "--shrink"},
                                                     {"-q", "--shrink", "a", "1088k"},
                                                     {"a", "+0"},
                                                     {"a", "+4M"}}) {
      ExpectSame(arguments);
      ExpectSameDisks("qcow2", "a");
    }
  }
}

TEST_F(ResizeTest, Preallocates) {
  for (const char* mode : {"off", "metadata", "falloc", "full"}) {
    Make("a", {"-f", "qcow2"});
    ExpectSame({std::string("--preallocation=") + mode, "a", "+3M"});
    ExpectSameDisks("qcow2", "a");
    // Only without preallocation has the new area no clusters.
    const Outcome map =
        Ringcow(ours_.path(), {"qemu-img", "map", "--output=json", "--start-offset=4M", "a"});
    const bool has_holes = map.out.find("\"present\": false") != std::string::npos;
    EXPECT_EQ(has_holes, mode == std::string("off")) << mode << map;
  }
}

TEST_F(ResizeTest, ResizesRawFilesToTheByte) {
  Make("r", {"-f", "raw"});
  for (const Words& arguments :
       std::vector<Words>{{"r", "5M"},
                          {"-f", "raw", "r", "1M"},
                          {"-f", "raw", "--shrink", "r", "1M"},
                          {"-f", "raw", "r", "12345678"},
                          {"-f", "raw", "--preallocation=falloc", "r", "20M"},
                          {"-f", "raw", "--preallocation=full", "r", "21M"},
                          {"-f", "raw", "--preallocation=metadata", "r", "+1M"}}) {
    ExpectSame(arguments);
    ExpectSameDisks("raw", "r");
    EXPECT_EQ(ReadBytes(ours_.File("r")).size(), ReadBytes(theirs_.File("r")).size());
  }
}

TEST_F(ResizeTest, ComplainsInTheSameWords) {
  Make("a", {"-f", "qcow2"});
  Make("old", {"-f", "qcow2", "-o", "compat=0.10"});
  for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
    Qemu(scratch->path(), {"qemu-img", "snapshot", "-c", "s", "old"});
  }
  for (const Words& arguments : std::vector<Words>{{"--shrink", "a", "0"},
                                                   {"a", "64X"},
                                                   {"a", "-1G"},
                                                   {"a", "+9E"},
                                                   {"a", "9E"},
                                                   {"a", "7E"},
                                                   {"a", "+"},
                                                   {"a", "+-1M"},
                                                   {"a", "1000"},
                                                   {"--shrink", "a", "1000"},
                                                   {"a"},
                                                   {},
                                                   {"a", "1", "2"},
                                                   {"nowhere", "1M"},
                                                   {"--preallocation=bogus", "a", "8M"},
                                                   {"--preallocation=full", "a", "+0"},
                                                   {"--preallocation=full", "a", "1M"},
                                                   {"-f", "bogus", "a", "8M"},
                                                   {"old", "8M"}}) {
    ExpectSame(arguments);
  }
  ExpectSameDisks("qcow2", "a");
}

}  // namespace
}  // namespace ringcow
