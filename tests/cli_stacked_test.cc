// Drivers on drivers, side by side with QEMU's: images in images, images that lie nowhere, and what
// copies on reading, compresses, or allocates ahead in between.

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

// An image that is all of what the guest of the image "a" sees.
constexpr char kInA[] =
    "json:{'driver':'qcow2','file':{'driver':'qcow2','file':{'driver':'file','filename':'a'}}}";

class StackedTest : public SideBySideTest {
 protected:
  void SetUp() override {
    Make({"qemu-img", "create", "-q", "-f", "qcow2", "plain", "1M"});
    Make({"qemu-io", "-f", "qcow2", "-c", "write -P 1 0 512k", "plain"});
    Make({"qemu-img", "create", "-q", "-f", "qcow2", "a", "8M"});
    Make({"qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", "plain", "a"});
    CopyToThem("plain");
    CopyToThem("a");
  }

  Outcome Ours(const Words& words) { return Ringcow(ours_.path(), words); }
  // By QEMU: what the file is in each of the two directories.
  void ExpectEqualImages(const std::string& name) {
    const Outcome compared =
        Qemu("/", {"qemu-img", "compare", ours_.File(name), theirs_.File(name)});
    EXPECT_EQ(compared.status, 0) << compared;
  }
};

bool Fails(const Outcome& outcome) { return absl::StrContains(outcome.out, "ailed"); }

TEST_F(StackedTest, AnImageInAnImageIsReadAndWritten) {
  EXPECT_FALSE(Fails(ExpectSameIo(
      kInA, {"read -P 1 0 512k", "read -P 0 512k 512k", "write -P 2 100 300k", "write -z 64k 64k",
             "discard 384k 64k", "read -P 2 150k 100k", "flush", "length", "alloc 0 1M"})));
  EXPECT_EQ(ExpectSame({"qemu-img", "check", kInA}).status, 0);
  EXPECT_EQ(ExpectSame({"qemu-img", "check", "a"}).status, 0);
  // What the one wrote the other reads.
  Make({"qemu-io", "-c", "read -P 2 100 65436", "-c", "read -P 0 64k 64k", kInA});
  Make({"qemu-img", "convert", "-O", "raw", kInA, "flat"});
  EXPECT_EQ(Ours({"qemu-img", "compare", "-F", "raw", kInA, "flat"}).status, 0);
}

TEST_F(StackedTest, AQuorumIsReadAndWritten) {
  for (const char* copy : {"b", "c"}) {
    Make({"qemu-img", "create", "-q", "-f", "qcow2", "-b", "plain", "-F", "qcow2", copy});
    CopyToThem(copy);
  }
  const std::string quorum =
      "json:{'driver':'qcow2','file':{'driver':'quorum','vote-threshold':1,'children':["
      "{'driver':'file','filename':'b'},{'driver':'file','filename':'c'}]}";
  const std::string alone = quorum + ",'backing':null}";
  // Nobody knows whose neighbour the backing file is.
  EXPECT_EQ(ExpectSame({"qemu-img", "info", quorum + "}"}).status, 0);
  EXPECT_EQ(ExpectSame({"qemu-img", "info", "--output=json", quorum + "}"}).status, 0);
  EXPECT_EQ(ExpectSame({"qemu-img", "info", "--backing-chain", quorum + "}"}).status, 1);
  EXPECT_EQ(ExpectSame({"qemu-io", "-c", "length", quorum + "}"}).status, 1);
  EXPECT_FALSE(Fails(ExpectSameIo(alone, {"write -P 2 100 300k", "read -P 2 100 300k", "flush"})));
  Make({"qemu-img", "compare", "b", "c"});
  const Outcome rebased = Ours({"qemu-img", "rebase", "-b", "plain", "-F", "qcow2", alone});
  EXPECT_TRUE(absl::StrContains(rebased.err, "Cannot use relative backing file names")) << rebased;
}

TEST_F(StackedTest, DevicesAreTakenForThat) {
  EXPECT_EQ(ExpectSame({"qemu-img", "info", "/dev/null"}).status, 0);
  EXPECT_EQ(ExpectSame({"qemu-img", "create", "-f", "raw", "/dev/null", "0"}).status, 0);
  EXPECT_EQ(ExpectSame({"qemu-img", "info", "file:/dev/null"}).status, 1);
  EXPECT_EQ(ExpectSame({"qemu-img", "info", "-f", "file", "/dev/null"}).status, 1);
  EXPECT_EQ(ExpectSame({"qemu-img", "info", "-f", "host_device", "a"}).status, 1);
}

TEST_F(StackedTest, ItIsNamedInEveryWay) {
  ExpectSame({"qemu-io", "-c", "read -P 1 0 1k", "--image-opts",
              "driver=qcow2,file.driver=qcow2,file.file.filename=a"});
  ExpectSame({"qemu-io", "-c", "open -o driver=qcow2,file.driver=qcow2,file.file.filename=a", "-c",
              "read -P 1 0 1k"});
  ExpectSame({"qemu-io", "-c", "open -o driver=qcow2,file.driver=qcow2 a", "-c", "read -P 1 0 1k"});
  ExpectSame({"qemu-img", "convert", "-O", "raw", kInA, "out"});
  ExpectEqualImages("out");
  ExpectSame({"qemu-img", "measure", "-O", "qcow2", kInA});
}

TEST_F(StackedTest, ABackingFileMayLieInAnImage) {
  ExpectSame({"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", kInA, "b"});
  EXPECT_FALSE(Fails(ExpectSameIo("b", {"read -P 1 0 512k", "write -P 7 64k 4k", "map"})));
  ExpectSame({"qemu-img", "commit", "b"});
  EXPECT_FALSE(Fails(ExpectSameIo(kInA, {"read -P 7 64k 4k", "read -P 1 68k 100k"})));
  EXPECT_EQ(ExpectSame({"qemu-img", "check", kInA}).status, 0);
  EXPECT_EQ(ExpectSame({"qemu-img", "check", "a"}).status, 0);
}

TEST_F(StackedTest, CommandsThatChangeAnImageChangeTheInnerOne) {
  ExpectSame({"qemu-img", "snapshot", "-c", "one", "--image-opts",
              "driver=qcow2,file.driver=qcow2,file.file.filename=a"});
  ExpectSame({"qemu-img", "amend", "-o", "lazy_refcounts=on", "--image-opts",
              "driver=qcow2,file.driver=qcow2,file.file.filename=a"});
  ExpectSame({"qemu-img", "resize", "--image-opts",
              "driver=qcow2,file.driver=qcow2,file.file.filename=a", "2M"});
  EXPECT_FALSE(Fails(ExpectSameIo(kInA, {"length", "read -P 1 0 512k", "write -P 3 1M 1M"})));
  EXPECT_EQ(ExpectSame({"qemu-img", "check", kInA}).status, 0);
  EXPECT_EQ(ExpectSame({"qemu-img", "check", "a"}).status, 0);
}

// QEMU writes behind the end of an image without telling its header, and loses that.
TEST_F(StackedTest, AnImageGrowsWithTheOneInIt) {
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "small", "512k"});
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "inside", "64M"});
  Make({"qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", "inside", "small"});
  const std::string name =
      "json:{'driver':'qcow2','file':{'driver':'qcow2','file.filename':'small'}}";
  const Outcome written =
      Ours({"qemu-io", "-c", "write -P 5 0 4M", "-c", "write -P 6 32M 64k", name});
  EXPECT_FALSE(Fails(written)) << written;
  Make({"qemu-io", "-c", "read -P 5 0 4M", "-c", "read -P 6 32M 64k", name});
  Make({"qemu-img", "check", "-q", "small"});
  Make({"qemu-img", "check", "-q", name});
}

TEST_F(StackedTest, AFixedSizeIsNotExceeded) {
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "full", "64M"});
  Make({"qemu-io", "-f", "raw", "-c", "truncate 1M", "full"});
  const std::string name =
      "json:{'driver':'qcow2','file':{'driver':'raw','size':1048576,'file.filename':'full'}}";
  const Outcome outcome =
      Ours({"qemu-io", "-c", "write -P 5 0 512k", "-c", "write -P 6 1M 1M", name});
  EXPECT_TRUE(absl::StrContains(outcome.out, "write failed: No space left on device")) << outcome;
  Make({"qemu-io", "-c", "read -P 5 0 512k", "full"});
  EXPECT_EQ(ReadBytes(ours_.File("full")).size(), 1U << 20);
  EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", "-q", "full"}).status, 0);
}

TEST_F(StackedTest, NothingIsWrittenAndZeroesAreRead) {
  for (const char* name :
       {"json:{'driver':'null-co','size':65536,'read-zeroes':true}",
        "json:{'driver':'null-aio','size':65536,'read-zeroes':'on','latency-ns':1000}",
        "json:{'driver':'raw','file':{'driver':'null-co','size':65536,'read-zeroes':true}}"}) {
    ExpectSameIo(name, {"read -P 0 0 64k", "write -P 1 0 64k", "read -P 0 0 64k", "length",
                        "discard 0 64k", "write -z 0 64k", "flush", "info"});
    ExpectSame({"qemu-img", "map", "--output=json", name});
    ExpectSame({"qemu-img", "convert", "-O", "raw", name, "zeroes"});
    ExpectEqualImages("zeroes");
  }
  for (const char* name : {"json:{'driver':'null-co','size':65536,'foo':1}",
                           "json:{'driver':'null-co','latency-ns':-1}",
                           "json:{'driver':'qcow2','file.driver':'null-co'}"}) {
    ExpectSameIo(name, {"length"});
  }
  ExpectSame({"qemu-io", "-f", "null-co", "-c", "length", "-c", "reopen", "-c", "info",
              "json:{'driver':'null-co','size':65536}"});
}

TEST_F(StackedTest, WhatIsWrittenIsCompressed) {
  const std::string name =
      "json:{'driver':'compress','file':{'driver':'qcow2','file.filename':'c'}}";
  ExpectSame({"qemu-img", "create", "-q", "-f", "qcow2", "c", "1M"});
  EXPECT_FALSE(Fails(
      ExpectSameIo(name, {"write -P 1 0 230k", "read -P 1 0 230k", "read -P 0 230k 100k",
                          "write -P 2 980k 20k", "write -z 512k 100", "write -z 640k 128k"})));
  EXPECT_TRUE(Fails(ExpectSameIo(name, {"write -P 3 100 100"})));
  EXPECT_FALSE(
      Fails(ExpectSameIo("c", {"read -P 1 0 230k", "read -P 2 980k 20k", "read -P 0 230k 750k"})));
  ExpectSame({"qemu-img", "check", "--output=json", "c"});
  ExpectSameIo("json:{'driver':'compress','file':{'driver':'raw','file.filename':'c'}}",
               {"length"});
  // Not a whole number of clusters.
  ExpectSame({"qemu-img", "create", "-q", "-f", "qcow2", "c", "1000k"});
  ExpectSameIo(name, {"length"});
}

TEST_F(StackedTest, WhatIsReadIsCopied) {
  for (const char* name :
       {"json:{'driver':'copy-on-read','file':{'driver':'qcow2','file.filename':'b'}}",
        "json:{'driver':'copy-on-read','file':{'driver':'blkdebug','image':"
        "{'driver':'qcow2','file.filename':'b'}}}",
        "json:{'driver':'blkdebug','image':{'driver':'copy-on-read','file':"
        "{'driver':'qcow2','file.filename':'b'}}}"}) {
    ExpectSame({"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "plain", "b"});
    EXPECT_FALSE(Fails(ExpectSameIo(name, {"read 0 0", "read -P 1 70k 100", "write -P 4 200k 1k",
                                           "read -P 0 600k 64k", "read -P 4 200k 1k"})));
    EXPECT_FALSE(Fails(ExpectSameIo("b", {"map", "read -P 1 64k 64k", "read -P 4 200k 1k"})));
    ExpectSame({"qemu-img", "check", "b"});
    ExpectSame({"qemu-io", "-r", "-c", "length", name});
  }
  ExpectSame({"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "plain", "b"});
  const std::string failing =
      "json:{'driver':'blkdebug','image':{'driver':'qcow2','file.filename':'b'},"
      "'inject-error':[{'event':'cor_write','sector':256,'errno':28}]}";
  EXPECT_TRUE(Fails(ExpectSame({"qemu-io", "-C", "-c", "read -P 1 0 64k", "-c", "read 128k 64k",
                                "-c", "read -P 1 256k 64k", failing})));
}

// The first data cluster of a new image is its sixth.
TEST_F(StackedTest, EachOfTwoBlkdebugsHasItsRules) {
  const std::string name =
      "json:{'driver':'qcow2','file':{'driver':'blkdebug','inject-error':[{'event':'none',"
      "'sector':641,'errno':28}],'image':{'driver':'blkdebug','image.filename':'plain',"
      "'inject-error':[{'event':'none','sector':642}]}}}";
  EXPECT_TRUE(Fails(ExpectSameIo(name, {"read 0 512", "read 512 512", "read 1k 512"})));
}

TEST_F(StackedTest, AFileIsAllocatedAhead) {
  const std::string name =
      "json:{'driver':'qcow2','file':{'driver':'preallocate','prealloc-size':67108864,"
      "'file':{'driver':'file','filename':'plain'}}}";
  EXPECT_FALSE(Fails(ExpectSameIo(name, {"write -P 2 0 1M", "flush", "read -P 2 0 1M"})));
  EXPECT_EQ(ReadBytes(ours_.File("plain")).size(), ReadBytes(theirs_.File("plain")).size());
  ExpectSame({"qemu-img", "check", "plain"});
  ExpectSameIo("json:{'driver':'preallocate','prealloc-align':3,'file.filename':'plain'}",
               {"length"});
}

TEST_F(StackedTest, TheyAreNamedInTheSameWay) {
  for (const char* name :
       {"json:{'driver':'raw','file':{'driver':'qcow2','file':{'driver':'file','filename':'a'}}}",
        "json:{'driver':'raw','offset':512,'size':1024,'file':{'driver':'file','filename':'a'}}",
        "json:{'driver':'compress','file':{'driver':'qcow2','file':{'filename':'a'}}}",
        "json:{'driver':'copy-on-read','file':{'driver':'qcow2','file':{'filename':'a'}}}",
        "json:{'driver':'preallocate','prealloc-size':512,'file':{'filename':'a'}}",
        "json:{'driver':'qcow2','file':{'driver':'preallocate','file':{'filename':'a'}}}",
        "json:{'driver':'qcow2','file':{'driver':'raw','size':458752,'file.filename':'plain'}}",
        "json:{'driver':'blkdebug','image':{'driver':'qcow2','file.filename':'a'}}",
        "json:{'driver':'blkdebug','align':512,'image':{'driver':'blkdebug','image':"
        "{'driver':'qcow2','file.filename':'a'}}}",
        "json:{'driver':'qcow2','file':{'driver':'blkdebug','image':{'driver':'blkdebug',"
        "'image.filename':'a'}}}",
        "json:{'driver':'null-co','size':65536,'read-zeroes':true}", "null-co://",
        "json:{'driver':'raw','size':512,'file':{'driver':'null-co'}}",
        "json:{'driver':'file','filename':'a'}", kInA}) {
    EXPECT_EQ(Ringcow(ours_.path(), {"qemu-img", "info", name}),
              Qemu(ours_.path(), {"qemu-img", "info", name}));
    EXPECT_EQ(Ringcow(ours_.path(), {"qemu-img", "info", "--output=json", name}),
              Qemu(ours_.path(), {"qemu-img", "info", "--output=json", name}));
    EXPECT_EQ(Ringcow(ours_.path(), {"qemu-io", "-c", "info", name}),
              Qemu(ours_.path(), {"qemu-io", "-c", "info", name}));
  }
}

TEST_F(StackedTest, WhatIsMissingOrWrongIsSaid) {
  for (const char* name :
       {"json:{'driver':'qcow2','file':{'driver':'qcow2','file':{'driver':'file','filename':'x'}}}",
        "json:{'driver':'qcow2','file':{'driver':'qcow2','file.filename':'plain'}}",
        "json:{'driver':'copy-on-read'}", "json:{'driver':'compress','file':'node'}",
        "json:{'driver':'copy-on-read','file':{'driver':'qcow2','file.filename':'x'}}",
        "json:{'driver':'preallocate','foo':1,'file.filename':'a'}",
        "json:{'driver':'qcow2','file':{'driver':'nonsense','file.filename':'a'}}"}) {
    ExpectSameIo(name, {"read 0 512"});
  }
  // Which of the two it is that is no image, QEMU does not say.
  WriteBytes(ours_.File("text"), std::string(4096, 'x'));
  EXPECT_EQ(Ours({"qemu-img", "check",
                  "json:{'driver':'qcow2','file':{'driver':'qcow2','file.filename':'text'}}"})
                .err,
            "qemu-img: Could not open 'json:{'driver':'qcow2','file':{'driver':'qcow2',"
            "'file.filename':'text'}}': Could not open 'qcow2:text': Image is not in qcow2 "
            "format\n");
  EXPECT_TRUE(absl::StrContains(
      Ours({"qemu-img", "check",
            "json:{'driver':'qcow2','file':{'driver':'raw','size':100,'file.filename':'a'}}"})
          .err,
      "Could not open 'raw:a': Specified size is not multiple of 512"));
}

// QEMU's temporary file cannot be written in a sandbox: it is told what is to be read.
TEST_F(StackedTest, ATemporaryOverlayLiesOnAllOfIt) {
  Make({"qemu-img", "convert", "-O", "raw", "plain", "raw"});
  Make({"qemu-io", "-f", "raw", "-c", "write -P 9 64k 64k", "raw"});
  for (const char* name :
       {"json:{'driver':'raw','offset':65536,'size':65536,'file.filename':'raw'}",
        "json:{'driver':'qcow2','file':{'driver':'raw','offset':0,'file.filename':'nine'}}",
        "json:{'driver':'blkdebug','image':{'driver':'raw','offset':65536,'file.filename':'raw'}"
        "}"}) {
    Make({"qemu-img", "convert", "-f", "raw", "-O", "qcow2", "raw", "nine"});
    Make({"qemu-io", "-c", "write -P 9 0 64k", "nine"});
    const std::string before = ReadBytes(ours_.File("raw")) + ReadBytes(ours_.File("nine"));
    const Outcome outcome =
        Ours({"qemu-io", "-s", "-c", "read -P 9 0 64k", "-c", "write -P 10 0 4k", "-c",
              "read -P 10 0 4k", "-c", "read -P 9 4k 60k", name});
    EXPECT_FALSE(Fails(outcome)) << outcome;
    EXPECT_EQ(outcome.status, 0) << outcome;
    EXPECT_TRUE(before == ReadBytes(ours_.File("raw")) + ReadBytes(ours_.File("nine")));
  }
}

// The file is locked by whoever is nearest to it, for what the image in it is opened for.
TEST_F(StackedTest, TheFileIsLocked) {
  const std::string overlay =
      "json:{'driver':'qcow2','file':{'driver':'qcow2','file.filename':'a'},"
      "'backing':{'driver':'qcow2','file.filename':'a'}}";
  EXPECT_TRUE(absl::StrContains(Ours({"qemu-io", "-c", "length", overlay}).err, "lock"));
}

TEST_F(StackedTest, NestingEnds) {
  std::string deep = "'filename':'a'";
  for (int i = 0; i < 300; ++i) deep = absl::StrCat("'driver':'raw','file':{", deep, "}");
  EXPECT_TRUE(absl::StrContains(Ours({"qemu-img", "info", absl::StrCat("json:{", deep, "}")}).err,
                                "nested"));
  std::string option = "driver=qcow2,";
  for (int i = 0; i < 20'000; ++i) absl::StrAppend(&option, "file.");
  EXPECT_EQ(Ours({"qemu-img", "info", "--image-opts", absl::StrCat(option, "filename=a")}).status,
            1);
  // An image whose backing file lies in the image itself.
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "self", "8M"});
  Make({"qemu-img", "rebase", "-u", "-F", "qcow2", "-b",
        "json:{'driver':'qcow2','file':{'driver':'qcow2','file.filename':'self'}}", "self"});
  const Outcome outcome = Ours({"qemu-io", "-r", "-c", "read 0 1", "self"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(absl::StrContains(outcome.err, "consists of more than 500 files")) << outcome;
}

}  // namespace
}  // namespace ringcow
