// What is printed with --output=json, side by side with qemu-img: everything that has such output,
// about images of every kind, with some of everything in them.

#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "engine/testing/sanitized.h"
#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

// Options of an image of 2 MiB, and of what it is made on.
struct Kind {
  std::string options;
  std::string backing;  // its format; empty: none
};

std::ostream& operator<<(std::ostream& out, const Kind& kind) {
  return out << kind.options << (kind.backing.empty() ? "" : " over ") << kind.backing;
}

std::vector<Kind> Kinds() {
  std::vector<Kind> kinds;
  for (const char* backing : {"", "raw", "qcow2"}) {
    for (const char* options :
         {"compat=0.10,cluster_size=512", "compat=0.10", "cluster_size=4k,refcount_bits=1",
          "cluster_size=64k", "cluster_size=2M,refcount_bits=64",
          "lazy_refcounts=on,compression_type=zstd", "extended_l2=on",
          "extended_l2=on,cluster_size=16k,refcount_bits=8"}) {
      kinds.push_back({options, backing});
    }
  }
  for (const char* options : {"data_file=data", "data_file=data,data_file_raw=on",
                              "data_file=data,extended_l2=on,cluster_size=128k"}) {
    kinds.push_back({options, ""});
  }
  return kinds;
}

class JsonTest : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    const Kind& kind = GetParam();
    Words create = {"qemu-img", "create", "-q", "-f", "qcow2", "-o", kind.options};
    if (!kind.backing.empty()) {
      Make({"qemu-img", "create", "-q", "-f", kind.backing, "base", "1M"});
      Make({"qemu-io", "-f", kind.backing, "-c", "write -P 7 100k 500k", "base"});
      create.insert(create.end(), {"-b", "base", "-F", kind.backing});
    }
    create.insert(create.end(), {"a", "2M"});
    Make(create);
    Fill();
  }

  // Every kind of cluster that an image of this kind can have.
  void Fill() {
    const std::string& options = GetParam().options;
    const bool has_data_file = absl::StartsWith(options, "data_file");
    const bool can_share = !absl::StrContains(options, "refcount_bits=1") && !has_data_file;
    const bool is_version_3 = !absl::StrContains(options, "compat=0.10");
    Make({"qemu-io", "-d", "unmap", "-c", "write -P 1 60k 300k", "-c", "write -z 400k 200k", "-c",
          "write -P 2 1M 64k", "a"});
    if (can_share) Make({"qemu-img", "snapshot", "-c", "before", "a"});
    if (is_version_3 && !absl::StrContains(options, "data_file_raw")) {
      Make({"qemu-img", "bitmap", "--add", "-g", "64k", "a", "dirty"});
    }
    Make({"qemu-io", "-d", "unmap", "-c", "write -P 3 128k 100k", "-c", "discard 1M 64k", "-c",
          "write -z -u 200k 20k", "a"});
    if (!has_data_file && !absl::StrContains(options, "cluster_size=2M")) {
      Make({"qemu-io", "-c", "write -c -P 4 1536k 128k", "a"});
    }
  }

  void Make(const Words& words) {
    const Outcome outcome = Qemu(directory_.path(), words);
    ASSERT_EQ(outcome.status, 0) << testing::PrintToString(words) << outcome;
  }
  void ExpectSame(Words words) {
    words.insert(words.begin(), "qemu-img");
    // In this order: space that the file system has reserved stops being a hole when it is read
    // ahead into the host's cache, and we read more of the tables at once.
    const Outcome ours = Ringcow(directory_.path(), words);
    const Outcome theirs = Qemu(directory_.path(), words);
    EXPECT_EQ(ours, theirs) << testing::PrintToString(words);
    EXPECT_EQ(theirs.status, 0) << testing::PrintToString(words) << theirs;
    EXPECT_NE(theirs.out, "");
  }

  const ScratchDirectory directory_;
};

INSTANTIATE_TEST_SUITE_P(Kinds, JsonTest, testing::ValuesIn(SomeOf(Kinds())));

TEST_P(JsonTest, SaysTheSame) {
  ExpectSame({"info", "--output=json", "a"});
  ExpectSame({"info", "--output=json", "--backing-chain", "a"});
  ExpectSame({"check", "--output=json", "a"});
  ExpectSame({"map", "--output=json", "a"});
  ExpectSame({"map", "--output=json", "-s", "100k", "-l", "1M", "a"});
  ExpectSame({"measure", "--output=json", "-O", "qcow2", "a"});
  ExpectSame({"measure", "--output=json", "-O", "raw", "a"});
  ExpectSame({"measure", "--output=json", "-O", "qcow2", "-o", "cluster_size=4k", "a"});
  ExpectSame({"measure", "--output=json", "-O", "qcow2", "-o", GetParam().options, "--size", "9G"});
}

}  // namespace
}  // namespace ringcow
