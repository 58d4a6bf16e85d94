// `rebase`, side by side with qemu-img on the same chains.

#include <cstdint>
#include <regex>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/testing/sanitized.h"
#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

class RebaseTest : public testing::Test {
 protected:
  void RunBoth(const Words& words) {
    for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
      ASSERT_EQ(Qemu(scratch->path(), words).status, 0) << testing::PrintToString(words);
    }
  }

  // "base" <- "mid" <- "top", and "other", a stranger, all of different sizes, in both directories.
  void MakeChain(const std::string& options) {
    RunBoth({"qemu-img", "create", "-q", "-f", "raw", "base", "2M"});
    RunBoth({"qemu-io", "-f", "raw", "-c", "write -P 1 0 1M", "base"});
    RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "raw", "mid", "3M"});
    RunBoth({"qemu-io", "-c", "write -P 2 64k 128k", "-c", "write -z 256k 64k", "mid"});
    RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-b", "mid", "-F", "qcow2",
             "top", "5000k"});
    RunBoth({"qemu-io", "-c", "write -P 3 130k 3k", "-c", "write -P 4 3500k 64k", "-c",
             "write -z 1M 100k", "top"});
    RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "other", "4M"});
    RunBoth({"qemu-io", "-c", "write -P 1 0 1500k", "-c", "write -P 5 3M 1000k", "other"});
  }

  Outcome Rebase(const Words& arguments) {
    Words words = {"qemu-img", "rebase"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    SCOPED_TRACE(testing::PrintToString(words));
    const Outcome ours = Ringcow(ours_.path(), words);
    EXPECT_EQ(ours, Qemu(theirs_.path(), words));
    return ours;
  }

  void ExpectSameInfo() {
    const Words words = {"qemu-img", "info", "-f", "qcow2", "top"};
    const auto without_sizes = [](std::string text) {
      for (const std::string name : {"disk size: ", "file length: "}) {
        for (size_t at = 0; (at = text.find(name, at)) != std::string::npos;) {
          text.erase(at, text.find('\n', at) - at);
        }
      }
      return text;
    };
    EXPECT_EQ(without_sizes(Qemu(ours_.path(), words).out),
              without_sizes(Qemu(theirs_.path(), words).out));
    const Outcome check = Qemu(ours_.path(), {"qemu-img", "check", "--image-opts",
                                              "driver=qcow2,file.filename=top,backing="});
    EXPECT_EQ(check.status, 0) << check;
  }

  // Of a map: what comes from the image itself.
  static uint64_t OwnBytes(const Outcome& map) {
    static const std::regex& extent = *new std::regex("\"length\": ([0-9]+), \"depth\": 0");
    uint64_t bytes = 0;
    const auto begin = std::sregex_iterator(map.out.begin(), map.out.end(), extent);
    for (auto at = begin; at != std::sregex_iterator(); ++at) bytes += std::stoull((*at)[1]);
    return bytes;
  }

  void ExpectSameContent() {
    const Outcome compared =
        Qemu("/", {"qemu-img", "compare", ours_.File("top"), theirs_.File("top")});
    EXPECT_EQ(compared.status, 0) << compared;
  }

  const ScratchDirectory ours_;
  const ScratchDirectory theirs_;
};

const char* const kFormats[] = {"cluster_size=64k", "cluster_size=4k",
                                "cluster_size=128k,extended_l2=on", "compat=0.10"};

TEST_F(RebaseTest, KeepsWhatTheGuestReads) {
  for (const char* options : kFormats) {
    for (const Words& arguments : SomeOf(
             std::vector<Words>{{"-b", "base", "-F", "raw", "top"},
                                {"-b", "other", "-F", "qcow2", "top"},
                                {"-b", "", "top"},
                                {"-b", "mid", "-F", "qcow2", "top"},
                                {"-t", "none", "-T", "none", "-b", "other", "-F", "qcow2", "top"},
                                {"-c", "-b", "other", "-F", "qcow2", "top"}})) {
      SCOPED_TRACE(testing::Message() << options << " " << testing::PrintToString(arguments));
      MakeChain(options);
      RunBoth({"qemu-img", "convert", "-O", "raw", "top", "before"});
      Words words = {"qemu-img", "rebase"};
      words.insert(words.end(), arguments.begin(), arguments.end());
      EXPECT_EQ(Ringcow(ours_.path(), words), Outcome());
      // QEMU 10.0.2 trips over an assertion where subclusters are to be compressed.
      const Outcome theirs = Qemu(theirs_.path(), words);
      if (theirs.status == 0) ExpectSameInfo();
      const Outcome kept = Qemu(ours_.path(), {"qemu-img", "compare", "before", "top"});
      EXPECT_EQ(kept.status, 0) << kept;
    }
  }
}

// All of a cluster of which something is needed, unless the image has some of it itself.
TEST_F(RebaseTest, CompressesWholeClustersOfSubclusters) {
  RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "mid", "320k"});
  RunBoth({"qemu-io", "-c", "write -P 1 10k 2k", "-c", "write -P 2 70k 2k", "-c", "write 256k 2k",
           "mid"});
  RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", "-b", "mid", "-F",
           "qcow2", "top", "322k"});
  RunBoth({"qemu-io", "-c", "write -P 3 66k 2k", "top"});
  RunBoth({"qemu-img", "convert", "-O", "raw", "top", "before"});
  EXPECT_EQ(Ringcow(ours_.path(), {"qemu-img", "rebase", "-c", "-b", "", "top"}), Outcome());
  const Outcome kept = Qemu(ours_.path(), {"qemu-img", "compare", "before", "top"});
  EXPECT_EQ(kept.status, 0) << kept;
  const Outcome map = Qemu(ours_.path(), {"qemu-img", "map", "--output=json", "top"});
  const auto says = [&map](uint64_t start, uint64_t length, bool compressed) {
    const std::string extent = absl::StrFormat(
        "\"start\": %d, \"length\": %d, \"depth\": 0, \"present\": true, "
        "\"zero\": false, \"data\": true, \"compressed\": %s",
        start, length, compressed ? "true" : "false");
    return map.out.find(extent) != std::string::npos;
  };
  EXPECT_TRUE(says(0, 64 << 10, true)) << map;
  EXPECT_TRUE(says(66 << 10, 2 << 10, false)) << map;
  EXPECT_TRUE(says(70 << 10, 2 << 10, false)) << map;
  EXPECT_TRUE(says(256 << 10, 64 << 10, true)) << map;
  EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", "top"}).status, 0);
}

// Nothing is copied that need not be.
TEST_F(RebaseTest, CopiesNoMoreThanQemu) {
  for (const Words& arguments : std::vector<Words>{{"-b", "base", "-F", "raw", "top"},
                                                   {"-b", "other", "-F", "qcow2", "top"},
                                                   {"-b", "", "top"}}) {
    MakeChain("cluster_size=64k");
    EXPECT_EQ(Rebase(arguments).status, 0);
    const Words map = {"qemu-img", "map", "--output=json", "top"};
    EXPECT_LE(OwnBytes(Qemu(ours_.path(), map)), OwnBytes(Qemu(theirs_.path(), map)));
  }
}

TEST_F(RebaseTest, UnsafeChangesTheNameAlone) {
  const std::string name(1023, 'x');
  for (const Words& arguments :
       SomeOf(std::vector<Words>{{"-u", "-b", "other", "-F", "qcow2", "top"},
                                 {"-u", "-b", "missing/file", "-F", "raw", "top"},
                                 {"-u", "-b", "base", "-F", "host_device", "top"},
                                 {"-u", "-b", "base", "-F", "file", "top"},
                                 {"-u", "-b", "base", "-F", "vmdk", "top"},
                                 {"-u", "top"},
                                 {"-u", "-b", "", "top"},
                                 {"-u", "-b", name, "-F", "raw", "-f", "qcow2", "top"},
                                 {"-u", "-p", "-b", "base", "-F", "raw", "top"}})) {
    for (const char* options : kFormats) {
      MakeChain(options);
      EXPECT_EQ(Rebase(arguments).status, 0);
      ExpectSameInfo();
    }
  }
  ExpectSameContent();
}

TEST_F(RebaseTest, ComplainsInTheSameWords) {
  MakeChain("cluster_size=512");
  const std::string name(1024, 'x');
  for (const Words& arguments :
       std::vector<Words>{{},
                          {"top"},
                          {"a", "b"},
                          {"-b", "base", "-F", "raw", "missing"},
                          {"-b", "missing", "-F", "raw", "top"},
                          {"-b", "top", "-F", "qcow2", "top"},
                          {"-u", "-b", "base", "top"},
                          {"-u", "-b", "base", "-F", "bogus", "top"},
                          {"-u", "-b", name, "-F", "raw", "top"},
                          {"-u", "-b", name.substr(500), "-F", "raw", "top"},
                          {"-t", "bogus", "-u", "top"},
                          {"-T", "bogus", "-u", "top"},
                          {"-f", "raw", "-u", "-b", "other", "-F", "qcow2", "base"},
                          {"-f", "raw", "-c", "-b", "other", "-F", "qcow2", "base"},
                          {"-f", "bogus", "-u", "top"},
                          {"--image-opts", "-f", "qcow2", "-u", "driver=qcow2,file.filename=top"},
                          {"-B", "base", "top"}}) {
    EXPECT_NE(Rebase(arguments).status, 0);
  }
  ExpectSameInfo();
  ExpectSameContent();
}

}  // namespace
}  // namespace ringcow
