// blkdebug below and above images, side by side with QEMU's: the same rules let the same commands
// fail, and what cannot be understood is refused in the same words.

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

class BlkdebugTest : public SideBySideTest {
 protected:
  void SetUp() override {
    Make({"qemu-img", "create", "-q", "-f", "qcow2", "a", "1M"});
    Make({"qemu-io", "-f", "qcow2", "-c", "write -P 1 0 512k", "a"});
    CopyToThem("a");
  }

  void Configure(const std::string& text) {
    for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
      WriteBytes(directory->File("conf"), text);
    }
  }

  using SideBySideTest::ExpectSameIo;
  // With these rules, in a list of options.
  Outcome ExpectSameIo(const std::string& rules, const Words& commands, const std::string& file) {
    return ExpectSameIo(
        absl::StrCat("json:{'driver':'qcow2','file':{'driver':'blkdebug','image.filename':'", file,
                     "',", rules, "}}"),
        commands);
  }
};

bool Fails(const Outcome& outcome) { return absl::StrContains(outcome.out, "failed:"); }

TEST_F(BlkdebugTest, RulesOfAFileFailReads) {
  Configure("[inject-error]\nevent = \"read_aio\"\nerrno = \"28\"\nonce = \"off\"\n");
  EXPECT_TRUE(Fails(ExpectSameIo("blkdebug:conf:a", {"read 0 64k", "read 0 64k"})));
  Configure("[inject-error]\nevent = \"l2_load\"\n");
  EXPECT_TRUE(Fails(ExpectSameIo("blkdebug:conf:a", {"read 0 64k", "read 0 64k"})));
  EXPECT_FALSE(Fails(ExpectSameIo("blkdebug::a", {"read -P 1 0 64k"})));
}

TEST_F(BlkdebugTest, RulesInOptionsFailWrites) {
  EXPECT_TRUE(
      Fails(ExpectSameIo("'inject-error':[{'event':'write_aio','errno':28,'once':true}]",
                         {"write -P 2 0 64k", "write -P 3 0 64k", "read -P 3 0 64k"}, "a")));
  const std::string immediately =
      "'inject-error':{'event':'write_aio','once':true,'immediately':true}";
  EXPECT_TRUE(Fails(ExpectSameIo(immediately, {"write 0 64k", "write -P 4 0 64k"}, "a")));
  Make({"qemu-img", "check", "-q", "a"});
}

TEST_F(BlkdebugTest, StatesCountRequests) {
  const std::string third =
      "'set-state':[{'event':'read_aio','state':1,'new_state':2},"
      "{'event':'read_aio','state':2,'new_state':3}],"
      "'inject-error':[{'event':'read_aio','state':3,'once':true}]";
  const Words reads = {"read 0 64k", "read 64k 64k", "read 0 64k", "read 0 64k"};
  EXPECT_TRUE(Fails(ExpectSameIo(third, reads, "a")));
}

TEST_F(BlkdebugTest, KindsAndPlacesOfRequests) {
  EXPECT_TRUE(Fails(ExpectSameIo("'inject-error':[{'event':'read_aio','iotype':'write'}]",
                                 {"read 0 64k", "write 0 64k"}, "a")));
  EXPECT_FALSE(Fails(ExpectSameIo("'inject-error':[{'event':'read_aio','iotype':'discard'}]",
                                  {"read 0 64k", "write 0 64k"}, "a")));
  // The first data cluster of a new image is its sixth.
  EXPECT_TRUE(Fails(ExpectSameIo("'inject-error':[{'event':'none','sector':641}]",
                                 {"read 0 512", "read 512 512", "read 1k 512"}, "a")));
}

TEST_F(BlkdebugTest, LimitsAreMet) {
  const std::string options =
      "open -o file.align=4k,file.max-transfer=64k,file.opt-write-zero=64k blkdebug::a";
  for (const std::string& commands :
       {absl::StrCat(options, "\nwrite -P 2 100 200k\nread -P 2 100 200k\nread -P 1 0 100\n"),
        absl::StrCat(options, "\nwrite -z 1000 100k\nread -P 0 1000 100k\nread -P 2 200k 100\n"),
        std::string("open -o driver=blkdebug,align=4k,max-transfer=16k,image.driver=qcow2 "
                    "blkdebug::a\nwrite -P 3 100 100k\nread -P 3 100 100k\nwrite -z 1 1\n"
                    "discard 256k 128k\nread -P 0 256k 128k\nalloc 0 1M\nlength\n")}) {
    EXPECT_FALSE(absl::StrContains(ExpectSame({"qemu-io"}, commands).out, "ailed"));
  }
  const Outcome compared = Qemu("/", {"qemu-img", "compare", ours_.File("a"), theirs_.File("a")});
  EXPECT_EQ(compared.status, 0) << compared;
}

TEST_F(BlkdebugTest, AboveAnImageItSeesWhatTheGuestDoes) {
  const std::string name =
      "json:{'driver':'blkdebug','image':{'driver':'qcow2','file.filename':'a'},"
      "'inject-error':[{'event':'none','sector':2,'iotype':'read'},"
      "{'event':'none','sector':200,'iotype':'discard'},"
      "{'event':'none','sector':300,'iotype':'block-status'}]}";
  EXPECT_TRUE(Fails(ExpectSameIo(name, {"read 0 1k", "read 0 2k", "write 1k 512", "discard 0 64k",
                                        "discard 64k 64k", "discard 128k 64k"})));
  EXPECT_EQ(ExpectSame({"qemu-img", "convert", "-O", "raw", name, "out"}).err,
            "qemu-img: error while reading block status at offset 0: Input/output error\n");
}

TEST_F(BlkdebugTest, RefusesInTheSameWords) {
  for (const char* text :
       {"[inject-error]\nevent = \"bogus\"\n", "[foo]\n", "event = \"none\"\n",
        "[inject-error]\nstate = \"1\"\n", "[inject-error]\nevent = \"none\"\nerrno = \"x\"\n"}) {
    Configure(text);
    ExpectSame({"qemu-img", "info", "blkdebug:conf:a"});
  }
  for (const char* name : {"blkdebug:a", "blkdebug:missing:a", "blkdebug::missing"}) {
    ExpectSame({"qemu-img", "info", name});
    ExpectSame({"qemu-io", "-c", "read 0 1", name});
  }
  for (const char* options :
       {"", "'image.filename':'a','foo':1", "'image.filename':'a','align':3", "'image':'node'",
        "'image.filename':'a','inject-error':[{'event':'x'}]",
        "'image.filename':'a','max-transfer':'x'"}) {
    ExpectSame({"qemu-img", "info",
                absl::StrCat("json:{'driver':'qcow2','file':{'driver':'blkdebug'",
                             *options == '\0' ? "" : ",", options, "}}")});
  }
}

TEST_F(BlkdebugTest, IsNamedInTheSameWay) {
  Configure("[inject-error]\nevent = \"l1_update\"\n");
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "-b", "a", "-F", "qcow2", "b"});
  for (const char* name : {"blkdebug:conf:a", "blkdebug::b"}) {
    for (const Words& words : {Words{"info"}, Words{"info", "--output=json"}, Words{"map"},
                               Words{"check"}, Words{"info", "--backing-chain"}}) {
      Words command = {"qemu-img"};
      command.insert(command.end(), words.begin(), words.end());
      command.emplace_back(name);
      EXPECT_EQ(Ringcow(ours_.path(), command), Qemu(ours_.path(), command));
    }
  }
}

TEST_F(BlkdebugTest, ABackingFileThatFailsEndsACommit) {
  const std::string backing =
      "json:{'driver':'qcow2','file':{'driver':'blkdebug','image.filename':'a',"
      "'inject-error':[{'event':'write_aio','errno':28,'once':true}]}}";
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "qcow2", "b"});
  Make({"qemu-io", "-c", "write -P 9 0 64k", "b"});
  CopyToThem("b");
  EXPECT_EQ(ExpectSame({"qemu-img", "commit", "b"}).err,
            "qemu-img: Block job failed: No space left on device\n");
  // Nothing is lost.
  EXPECT_FALSE(Fails(ExpectSameIo("b", {"read -P 9 0 64k"})));
}

TEST_F(BlkdebugTest, BreakpointsStopRequests) {
  const std::string input =
      "break write_aio A\naio_write -P 7 0 4k\nwait_break A\nread -P 1 64k 4k\nresume A\n"
      "aio_flush\nread -P 7 0 4k\nresume A\nbreak write_aio B\nremove_break B\nremove_break B\n"
      "write -P 8 0 4k\nbreak nonsense C\nhelp break\nhelp remove_break\nhelp resume\n"
      "help wait_break\n";
  const Outcome outcome = ExpectSame({"qemu-io", "blkdebug::a"}, input);
  EXPECT_TRUE(absl::StrContains(outcome.out, "blkdebug: Suspended request 'A'")) << outcome;
  ExpectSame({"qemu-io", "a"}, "break write_aio A\nremove_break A\nresume A\n");
}

// QEMU waits for ever.
TEST_F(BlkdebugTest, NothingStopsForEver) {
  const Outcome flushed = Ringcow(ours_.path(), {"qemu-io", "blkdebug::a"},
                                  "break write_aio A\naio_write -P 7 0 4k\naio_flush\n"
                                  "break write_aio B\nwrite -P 7 0 4k\nwait_break C\n"
                                  "break write_aio D\naio_write -P 7 0 4k\n");
  for (const char* said : {"Resuming request 'A'", "Resuming request 'B'", "Resuming request 'D'",
                           "nothing is left that could stop at 'C'"}) {
    EXPECT_TRUE(absl::StrContains(flushed.out, said)) << flushed;
  }
  EXPECT_EQ(flushed.status, 1);
}

TEST_F(BlkdebugTest, WhatDoesNotComeAboutIsNotAccepted) {
  Configure("[inject-error]\nevent = \"refblock_update\"\n");
  EXPECT_EQ(Ringcow(ours_.path(), {"qemu-img", "info", "blkdebug:conf:a"}).err,
            "qemu-img: Could not open 'blkdebug:conf:a': The event 'refblock_update' does "
            "not come about in ringcow\n");
  const std::string backing =
      "json:{'driver':'qcow2','file.filename':'a','backing':{'driver':'blkdebug','image':{"
      "'driver':'qcow2','file.filename':'missing'}}}";
  EXPECT_EQ(Ringcow(ours_.path(), {"qemu-io", "-c", "read 0 1", backing}).status, 1);
  EXPECT_EQ(Ringcow(ours_.path(), {"qemu-io", "-s", "-c", "read 0 1", "blkdebug::a"}).status, 0);
  EXPECT_EQ(Ringcow(ours_.path(), {"qemu-io", "-c", "break cluster_alloc A", "blkdebug::a"}).out,
            "Could not set breakpoint: no request stops at 'cluster_alloc' in ringcow\n");
}

}  // namespace
}  // namespace ringcow
