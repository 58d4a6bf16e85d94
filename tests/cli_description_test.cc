// Images described by options in a "json:" name, as qemu-io opens them: the same content, the same
// refusals.

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/cli_harness.h"
#include "tests/support/hosts.h"

namespace ringcow {
namespace {

class DescriptionTest : public testing::Test {
 protected:
  void SetUp() override {
    Make({"create", "-q", "-f", "qcow2", "base", "1M"});
    Write("base", "write -P 1 0 1M");
    Make({"create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top"});
    Write("top", "write -P 2 64k 64k");
    Make({"create", "-q", "-f", "qcow2", "-o", "data_file=apart.data", "apart", "1M"});
    Write("apart", "write -P 4 0 1M");
    WriteBytes(directory_.File("plain"), std::string(1 << 20, '\x03'));
  }

  void Make(std::vector<std::string> words) {
    words.insert(words.begin(), "qemu-img");
    const Outcome outcome = Qemu(directory_.path(), words);
    ASSERT_EQ(outcome.status, 0) << outcome;
  }
  void Write(const std::string& name, const std::string& command) {
    const Outcome outcome =
        Qemu(directory_.path(), {"qemu-io", "-f", "qcow2", "-c", command, name});
    ASSERT_EQ(outcome.status, 0) << outcome;
  }

  // Reading three places tells which of the images above each byte is from.
  Outcome Read(bool by_qemu, const std::string& description) {
    const std::vector<std::string> words = {
        "qemu-io",      "-r",     "-c",
        "read -v 0 16", "-c",     "read -v 64k 16",
        "-c",           "length", absl::StrCat("json:", description)};
    Outcome outcome = by_qemu ? Qemu(directory_.path(), words) : Ringcow(directory_.path(), words);
    outcome.out = WithoutTimes(outcome.out);
    return outcome;
  }
  void ExpectSame(const std::string& description, bool opens) {
    const Outcome theirs = Read(/*by_qemu=*/true, description);
    EXPECT_EQ(Read(/*by_qemu=*/false, description), theirs) << description;
    EXPECT_EQ(theirs.status == 0, opens) << description;
  }

  const ScratchDirectory directory_;
};

TEST_F(DescriptionTest, OpensTheSame) {
  for (const char* description : {
           R"({"driver": "qcow2", "file": {"driver": "file", "filename": "top"}})",
           R"({"driver": "qcow2", "file.driver": "file", "file.filename": "top"})",
           R"({'driver': 'qcow2', 'file.filename': 'top'})",
           R"({"file": {"filename": "top"}})",
           R"({"file.filename": "top"})",
           R"({"driver": "raw", "file.filename": "plain"})",
           R"({"driver": "raw", "file.filename": "top"})",
           R"({"driver": "raw", "file.filename": "plain", "offset": 1024})",
           R"({"driver": "raw", "file.filename": "plain", "offset": 100, "size": 131072})",
           R"({"driver": "raw", "file.filename": "plain", "size": "128k"})",
           R"({"driver": "file", "filename": "plain"})",
           R"({"driver": "qcow2", "file.filename": "top", "backing": null})",
           R"({"driver": "qcow2", "file.filename": "top", "backing.driver": "raw",
               "backing.file.filename": "plain"})",
           R"({"driver": "qcow2", "file.filename": "base", "backing.driver": "raw",
               "backing.file.filename": "plain"})",
           R"({"driver": "qcow2", "file.filename": "top", "lazy-refcounts": true,
               "l2-cache-size": 65536, "refcount-cache-size": 262144, "node-name": "n"})",
           R"({"driver": "qcow2", "file.filename": "top", "cache-size": 1048576})",
           R"({"driver": "qcow2", "file.filename": "top", "cache-size": 65536,
               "l2-cache-size": 65536, "l2-cache-entry-size": 512, "cache-clean-interval": 0})",
           R"({"driver": "qcow2", "file.filename": "top", "overlap-check": "constant",
               "discard": "ignore", "pass-discard-request": true, "pass-discard-snapshot": false,
               "pass-discard-other": false})",
           R"({"driver": "qcow2", "file.filename": "top", "overlap-check": {"template": "none"}})",
           R"({"driver": "qcow2", "file.filename": "top", "overlap-check": {"template": "all",
               "main-header": false, "bitmap-directory": true, "inactive-l2": false}})",
           R"({"driver": "qcow2", "file.filename": "top", "overlap-check.active-l2": false})",
           R"({"driver": "qcow2", "file.filename": "top", "cache-clean-interval": 4294967295,
               "pass-discard-request": false, "pass-discard-snapshot": true,
               "pass-discard-other": "yes"})",
           R"({"driver": "qcow2", "file.filename": "apart", "data-file.driver": "file",
               "data-file.filename": "plain"})",
           R"({"driver": "qcow2", "file.filename": "apart", "data-file.filename": "apart.data"})",
           R"({"driver": "qcow2", "file.filename": "apart", "data-file":
               {"driver": "raw", "file": {"driver": "file", "filename": "plain"}}})",
           R"({"driver": "qcow2", "file": {"driver": "blkdebug", "image.filename": "top"}})",
           R"({"driver": "blkdebug", "image": {"driver": "qcow2", "file.filename": "top"}})",
           R"({"driver": "qcow2", "read-only": true, "file":
               {"driver": "file", "filename": "top", "locking": "auto", "aio": "threads"}})",
           R"({"driver": "qcow2", "file.filename": "top", "file.locking": "off",
               "detect-zeroes": "unmap", "discard": "unmap"})",
       }) {
    ExpectSame(description, /*opens=*/true);
  }
}

TEST_F(DescriptionTest, RefusesTheSame) {
  for (const char* description : {
           R"({"driver": "qcow2", "file.filename": "top", "lazy-refcounts": 1})",
           R"({"driver": "qcow2", "file.filename": "top", "foo": 1})",
           R"({"driver": "raw", "file.filename": "top", "foo": 1})",
           R"({"driver": "raw", "file.filename": "plain", "offset": "1T"})",
           R"({"driver": "raw", "file.filename": "plain", "offset": 512, "size": "1T"})",
           R"({"driver": "raw", "file.filename": "plain", "size": 1000})",
           R"({"driver": "raw", "file.filename": "plain", "size": -1})",
           R"({"driver": "qcow2", "file.filename": "top", "a": [1]})",
           R"({"file.filename": "file:top"})",
           R"({"driver": "qcow2", "file": {"driver": "file", "filename": "top", "bar": true}})",
           R"({"driver": "file", "filename": "plain", "bar": true})",
           R"({"driver": "qcow2", "file": "top"})",
           R"({"driver": "qcow2", "file.filename": "top", "backing": "node"})",
           R"({"driver": "qcow2", "file.filename": "top", "backing.file.filename": "missing"})",
           R"({"driver": "qcow2", "file.filename": "top", "cache-size": 65536,
               "l2-cache-size": 131072})",
           R"({"driver": "qcow2", "file.filename": "top", "cache-size": 65536,
               "refcount-cache-size": 131072})",
           R"({"driver": "qcow2", "file.filename": "top", "cache-size": 65536,
               "l2-cache-size": 1024, "refcount-cache-size": 1024})",
           R"({"driver": "qcow2", "file.filename": "top", "l2-cache-entry-size": 1000})",
           R"({"driver": "qcow2", "file.filename": "top", "l2-cache-entry-size": 131072})",
           R"({"driver": "qcow2", "file.filename": "top", "overlap-check": "some"})",
           R"({"driver": "qcow2", "file.filename": "top", "overlap-check": "none",
               "overlap-check.template": "cached"})",
           R"({"driver": "qcow2", "file.filename": "top", "overlap-check.template": "some"})",
           R"({"driver": "qcow2", "file.filename": "top", "overlap-check.active-l2": 1})",
           R"({"driver": "qcow2", "file.filename": "top", "overlap-check.nothing": true})",
           R"({"driver": "qcow2", "file.filename": "top", "cache-clean-interval": -1})",
           R"({"driver": "qcow2", "file.filename": "top", "cache-clean-interval": 4294967296})",
           R"({"driver": "qcow2", "file.filename": "top", "cache-clean-interval": "often"})",
           R"({"driver": "qcow2", "file.filename": "top", "pass-discard-other": "maybe"})",
           R"({"driver": "qcow2", "file.filename": "top", "refcount-cache-size": "256T"})",
           R"({"driver": "qcow2", "file.filename": "top", "discard": "never"})",
           R"({"driver": "qcow2", "file.filename": "top", "file.locking": "never"})",
           R"({"driver": "qcow2", "file.filename": "top", "detect-zeroes": "never"})",
           R"({"driver": "qcow2", "file.filename": "top", "discard": "ignore",
               "detect-zeroes": "unmap"})",
           R"({"driver": "qcow2", "file.filename": "top", "data-file.filename": "plain"})",
           R"({"driver": "qcow2", "file.filename": "apart", "data-file.filename": "missing"})",
           R"({"driver": "qcow2", "file.filename": "apart", "data-file": "node"})",
           R"({"driver": "qcow2", "file.filename": "apart", "data-file.driver": "raw"})",
           R"({"filename": "top"})",
           R"({"driver": "qcow2"})",
           R"({"driver": "nope", "file.filename": "top"})",
           R"({"driver": "qcow2", "file.driver": "nope", "file.filename": "top"})",
           R"({"driver": "file"})",
           R"({"driver": "qcow2", "file.filename": "plain"})",
           R"([1])",
       }) {
    ExpectSame(description, /*opens=*/false);
  }
}

TEST_F(DescriptionTest, RefusesWhatItCannotDo) {
  for (const char* option : {R"("file.discard": "ignore")", R"("discard-no-unref": true)",
                             R"("cache.no-flush": true)"}) {
    const Outcome outcome =
        Read(/*by_qemu=*/false,
             absl::StrCat(R"({"driver": "qcow2", "file.filename": "top", )", option, "}"));
    EXPECT_EQ(outcome.status, 1) << outcome;
    EXPECT_NE(outcome.err.find("is not supported yet"), std::string::npos) << outcome;
  }
  const Outcome writing =
      Ringcow(directory_.path(),
              {"qemu-io", "-c", "length",
               R"(json:{"driver": "qcow2", "file.filename": "top", "read-only": true})"});
  EXPECT_NE(writing.err.find("Block node is read-only"), std::string::npos) << writing;
}

// What is discarded stays, and what is zeroed keeps its space.
TEST_F(DescriptionTest, IgnoresDiscardsWhereItIsTold) {
  const std::vector<std::string> words = {
      "qemu-io",
      "-c",
      "discard 64k 64k",
      "-c",
      "read -P 2 64k 64k",
      "-c",
      "write -z -u 0 64k",
      "-c",
      "read -P 0 0 64k",
      R"(json:{"driver": "qcow2", "file.filename": "top", "discard": "ignore"})"};
  WriteBytes(directory_.File("copy"), ReadBytes(directory_.File("top")));
  Outcome theirs = Qemu(directory_.path(), words);
  theirs.out = WithoutTimes(theirs.out);
  WriteBytes(directory_.File("top"), ReadBytes(directory_.File("copy")));
  Outcome ours = Ringcow(directory_.path(), words);
  ours.out = WithoutTimes(ours.out);
  EXPECT_EQ(ours, theirs);
  EXPECT_EQ(ours.status, 0) << ours;
}

TEST_F(DescriptionTest, DetectsZeroes) {
  const auto map_after_write = [this](bool by_qemu, const std::string& manner) {
    Make({"create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", "new", "1M"});
    const std::vector<std::string> write = {
        "qemu-io",
        "-c",
        "write -r -P 0 0 128k",
        "-c",
        "write -P 1 128k 64k",
        "--image-opts",
        absl::StrCat("driver=qcow2,file.filename=new,discard=unmap,detect-zeroes=", manner)};
    const Outcome outcome =
        by_qemu ? Qemu(directory_.path(), write) : Ringcow(directory_.path(), write);
    EXPECT_EQ(outcome.status, 0) << outcome;
    return Qemu(directory_.path(), {"qemu-img", "map", "--output=json", "new"}).out;
  };
  for (const char* manner : {"off", "on", "unmap"}) {
    EXPECT_EQ(map_after_write(/*by_qemu=*/false, manner), map_after_write(true, manner)) << manner;
  }
}

// Both open an image that somebody else writes to.
TEST_F(DescriptionTest, GoesWithoutLocks) {
  const std::string unlocked =
      R"(json:{"driver": "qcow2", "file": {"filename": "top", "locking": "off"}})";
  const auto open_within = [&](const std::string& inner) {
    return Ringcow(directory_.path(), {"qemu-io", "-c", "write -P 6 0 1k", inner}).status;
  };
  FileHost holder(directory_.File("top"));
  EXPECT_EQ(open_within("top"), 1);
  EXPECT_EQ(open_within(unlocked), 0);
}

// In the header of an image.
TEST_F(DescriptionTest, BackingFilesAreDescribedToo) {
  for (const auto& [format, backing] :
       {std::pair("qcow2", R"(json:{"driver": "qcow2", "file.filename": "top"})"),
        std::pair("raw", R"(json:{"driver": "raw", "file.filename": "plain"})"),
        std::pair("qcow2", R"(json:{"driver": "qcow2", "file": {"filename": "top"},
                                  "backing": {"driver": "raw", "file.filename": "plain"}})")}) {
    Make({"create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", format, "over", "1M"});
    ExpectSame(R"({"driver": "qcow2", "file.filename": "over"})", /*opens=*/true);
  }
}

}  // namespace
}  // namespace ringcow
