// What is said of damaged images, and what becomes of them, side by side with QEMU's tools.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

// Of a fresh image with clusters of 64 KiB.
constexpr uint64_t kCluster = 65536;
constexpr uint64_t kRefcountTableField = 48;
constexpr uint64_t kRefcountTable = 1 * kCluster;
constexpr uint64_t kRefcountBlock = 2 * kCluster;
constexpr uint64_t kL1 = 3 * kCluster;
constexpr uint64_t kL2 = 4 * kCluster;
constexpr uint64_t kData = 5 * kCluster;
constexpr uint64_t kCopied = uint64_t{1} << 63;

class DamageTest : public SideBySideTest {
 protected:
  // `commands` are those of qemu-io.
  void MakeImage(const Words& commands, const std::string& options = "compat=1.1") {
    Make({"qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "a", "64M"});
    if (commands.empty()) return;
    Words words = {"qemu-io"};
    for (const std::string& command : commands) words.insert(words.end(), {"-c", command});
    words.emplace_back("a");
    Make(words);
  }
  void Put64(uint64_t offset, uint64_t value) {
    std::string bytes = ReadBytes(ours_.File("a"));
    if (bytes.size() < offset + 8) bytes.resize(offset + 8);
    for (int i = 0; i < 8; ++i) bytes[offset + i] = static_cast<char>(value >> (56 - 8 * i));
    WriteBytes(ours_.File("a"), bytes);
  }
  // What both do with the image, and whether it is marked then.
  void ExpectSameFate(const Words& commands) {
    CopyToThem("a");
    ExpectSameIo("a", commands);
    ExpectSameIo("a", {"read 1M 64k"});
    ExpectSameHeaders();
  }
  void ExpectSameHeaders() {
    const auto header = [](const ScratchDirectory& directory) {
      return ReadBytes(directory.File("a")).substr(0, 104);
    };
    EXPECT_EQ(header(ours_), header(theirs_));
  }
};

TEST_F(DamageTest, WithUnalignedClusters) {
  for (const char* const command :
       {"read 64k 4k", "write 69k 1k", "discard 64k 64k", "write -z -u 64k 64k"}) {
    SCOPED_TRACE(command);
    MakeImage({"write 0 256k"});
    Put64(kL2 + 8, kCopied | (kData + kCluster + 0x2a00));
    ExpectSameFate({"read 0 4k", command, "read 0 4k", "write 0 4k", "discard 0 64k"});
  }
}

TEST_F(DamageTest, ThatFailsNoRequestIsToldOnce) {
  MakeImage({"write 0 256k"});
  for (uint64_t i = 0; i < 3; ++i) Put64(kL2 + 8 * i, kCopied | (kData + i * kCluster + 0x2a00));
  ExpectSameFate({"discard 0 64k", "discard 64k 64k", "read 128k 64k"});
}

TEST_F(DamageTest, WithUnalignedZeroClusters) {
  for (const char* const command : {"read 0 64k", "write 4k 4k", "write 0 64k", "discard 0 64k"}) {
    SCOPED_TRACE(command);
    MakeImage({"write 0 64k"});
    Put64(kL2, kCopied | 0x2a00 | 1);
    ExpectSameFate({command});
  }
}

TEST_F(DamageTest, OfImagesThatAreOnlyRead) {
  MakeImage({"write 0 256k"});
  Put64(kL2, kCopied | (kData + 0x2a00));
  CopyToThem("a");
  ExpectSame({"qemu-io", "-r", "-f", "qcow2", "-c", "read 0 64k", "-c", "read 0 64k", "a"});
  ExpectSame({"qemu-img", "convert", "-O", "raw", "a", "b"});
}

TEST_F(DamageTest, OfABackingFileIsTold) {
  MakeImage({"write 0 256k"});
  Put64(kL2, kCopied | (kData + 0x2a00));
  CopyToThem("a");
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "a", "overlay"});
  CopyToThem("overlay");
  ExpectSameIo("overlay", {"read 0 64k", "write 0 1k", "read 64k 64k"});
}

TEST_F(DamageTest, ThatLeadsIntoMetadataIsReadByWhoOnlyReads) {
  for (const uint64_t place : {uint64_t{0}, kRefcountTable, kRefcountBlock, kL1}) {
    SCOPED_TRACE(place);
    MakeImage({"write 0 256k"});
    Put64(kL2, kCopied | place);
    CopyToThem("a");
    const Words read = {"qemu-io", "-r", "-f", "qcow2", "-c", "read -v 0 64k", "a"};
    ExpectSame(read);
    Put64(kL1, kCopied | kL1);
    CopyToThem("a");
    ExpectSame({"qemu-io", "-r", "-f", "qcow2", "-c", "read -v 0 4k", "a"});
  }
}

TEST_F(DamageTest, OfSubclusters) {
  const struct {
    uint64_t entry = 0;
    uint64_t bitmap = 0;
  } kEntries[] = {
      {kCopied | kData | 1, 1},          // a zero flag
      {1, 0},                            // the same
      {kCopied | kData, 0x1ffffffff},    // allocated and zero
      {0, 1},                            // allocated nowhere
      {kCopied | (kData + 0x200), 0x3},  // not aligned
  };
  for (const auto& [entry, bitmap] : kEntries) {
    for (const char* const command : {"read 0 1k", "write 0 1k", "read 0 256k"}) {
      SCOPED_TRACE(testing::Message() << std::hex << entry << " " << bitmap << " " << command);
      MakeImage({"write 0 64k", "write 256k 1k"}, "extended_l2=on");
      Put64(kL2, entry);
      Put64(kL2 + 8, bitmap);
      ExpectSameFate({command, "read 0 64k"});
    }
  }
}

TEST_F(DamageTest, OfTheBitmapOfACompressedCluster) {
  MakeImage({"write -c -P 11 0 64k"}, "extended_l2=on");
  Put64(kL2 + 8, 0x180000000);
  ExpectSameFate({"read -P 11 0 64k", "write -P 12 0 64k", "read -P 12 0 64k"});
}

TEST_F(DamageTest, OfRefcounts) {
  const struct {
    Words made;
    uint64_t place = 0;
    uint64_t value = 0;
  } kDamages[] = {
      {{}, kRefcountTable, 0},
      {{"write 0 64k"}, kRefcountTable, 0},
      {{}, kRefcountBlock, 0},
      {{}, kRefcountTableField, 0},
      {{}, kRefcountTable, kRefcountBlock + 0x2a00},
  };
  for (const auto& [made, place, value] : kDamages) {
    SCOPED_TRACE(testing::Message() << std::hex << place << " " << made.size());
    MakeImage(made);
    Put64(place, value);
    ExpectSameFate({"write 0 128k", "read 0 4k"});
  }
}

// A request that stopped before it copied goes on when the image is corrupt.
TEST_F(DamageTest, ThatIsMetWhileAnotherCopies) {
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "base", "1G"});
  Make({"qemu-io", "-c", "write 0 64k", "base"});
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base", "a"});
  Make({"qemu-io", "-c", "write 0 64k", "-c", "write 512M 64k", "a"});
  Put64(kL2, 0);
  std::string bytes = ReadBytes(ours_.File("a"));
  constexpr uint64_t kOfTheSecondL2Table = kRefcountBlock + 2 * 6;
  bytes[kOfTheSecondL2Table + 1] = bytes[kRefcountBlock + 2 * 5 + 1] = 0;
  WriteBytes(ours_.File("a"), bytes);
  CopyToThem("base");
  CopyToThem("a");
  ExpectSame({"qemu-io"},
             "open -o driver=qcow2,file.driver=blkdebug a\nbreak cow_read 0\naio_write 0k 1k\n"
             "wait_break 0\nwrite 64k 64k\nresume 0\n");
  ExpectSameHeaders();
}

// What a corrupt image answers with, but of the host.
TEST_F(DamageTest, OfTheMediumIsNoCorruption) {
  MakeImage({"write 0 64k"});
  const Outcome outcome = Ringcow(
      ours_.path(), {"qemu-io", "-c", "write 64k 64k",
                     "json:{'driver':'qcow2','file':{'driver':'blkdebug','image.filename':'a',"
                     "'inject-error':{'event':'write_aio','iotype':'flush','errno':123}}}"});
  EXPECT_EQ(outcome.status, 1) << outcome;
  EXPECT_NE(outcome.err.find("fdatasync failed"), std::string::npos) << outcome;
}

TEST_F(DamageTest, ThatADowngradeMeets) {
  const struct {
    uint64_t place = 0;
    uint64_t value = 0;
  } kDamages[] = {
      {kL1, kCopied | (kL2 + 0x2a00)},
      {kL2, kCopied | (kData + 0x2a00) | 1},
  };
  for (const auto& [place, value] : kDamages) {
    MakeImage({"write 0 64k"});
    Put64(place, value);
    CopyToThem("a");
    ExpectSame({"qemu-img", "amend", "-o", "compat=0.10", "a"});
    ExpectSameHeaders();
  }
}

TEST_F(DamageTest, ThatShrinkingMeets) {
  const struct {
    uint64_t second_block = 0;
    uint64_t third_block = 0;
  } kDamages[] = {
      {0x00ffffff00000000, 0},
      {0x1000000000, 0},
      {0x1000000000, 0x200},
  };
  for (const auto& [second_block, third_block] : kDamages) {
    SCOPED_TRACE(testing::Message() << std::hex << second_block << " " << third_block);
    MakeImage({"write 40M 64k"}, "refcount_bits=1");
    Put64(kRefcountTable + 8, second_block);
    Put64(kRefcountTable + 16, third_block);
    CopyToThem("a");
    ExpectSame({"qemu-img", "resize", "--shrink", "a", "32M"});
    ExpectSameHeaders();
    const auto table = [](const ScratchDirectory& directory) {
      return ReadBytes(directory.File("a")).substr(kRefcountTable, 64);
    };
    EXPECT_EQ(table(ours_), table(theirs_));
  }
}

TEST_F(DamageTest, OfSnapshotsRefusesWhatTheyMayBeIn) {
  for (const char* const command : {"discard 0 64k", "write 0 64k", "write -z -u 0 64k"}) {
    SCOPED_TRACE(command);
    MakeImage({"write 0 256k"});
    Make({"qemu-img", "snapshot", "-c", "s", "a"});
    const std::string bytes = ReadBytes(ours_.File("a"));
    uint64_t snapshots = 0;
    for (int i = 64; i < 72; ++i) snapshots = snapshots << 8 | static_cast<uint8_t>(bytes[i]);
    Put64(snapshots, kL1 + 0x200);
    CopyToThem("a");
    ExpectSame({"qemu-io", "-c", "open -o overlap-check.inactive-l2=on a", "-c", command});
  }
}

// Told, it is still said what could not be done for it.
TEST_F(DamageTest, EndsWhatIsDoneInItsOwnWords) {
  MakeImage({"write 0 256k"});
  Put64(kL2 + 8, kCopied | (kData + kCluster + 0x2a00));
  CopyToThem("a");
  ExpectSame({"qemu-img", "measure", "-O", "qcow2", "a"});
  ExpectSame({"qemu-img", "rebase", "-b", "", "a"});
  MakeImage({"write 0 256k"});
  Make({"qemu-img", "snapshot", "-c", "s", "a"});
  Make({"qemu-io", "-c", "write 0 256k", "a"});
  Put64(kL2 + 8, kData + kCluster + 0x2a00);
  CopyToThem("a");
  ExpectSame({"qemu-img", "snapshot", "-d", "s", "a"});
}

// What cannot be cut off is met before anything is, and a damaged table is no reason to write to
// what something else needs.
TEST_F(DamageTest, AShrinkThatFailsLeavesEverythingAsItWas) {
  const struct {
    uint64_t offset;
    uint64_t value;
  } cases[] = {
      {kL2 + 8 * 9, kCopied | (kData + 9 * kCluster) | uint64_t{1} << 56},  // reserved bits
      {kRefcountTableField, kL1},
      {kRefcountTableField, kL2},
      {kRefcountTable + 8, kRefcountBlock},     // two entries of one block
      {kRefcountTable + 8, uint64_t{1} << 31},  // a block that counts itself, behind the file
  };
  for (const auto& [offset, value] : cases) {
    SCOPED_TRACE(testing::Message() << offset << " " << value);
    MakeImage({"write -P 7 0 1M"});
    Put64(offset, value);
    const std::string before = ReadBytes(ours_.File("a"));
    EXPECT_EQ(Ringcow(ours_.path(), {"qemu-img", "resize", "--shrink", "a", "128k"}).status, 1);
    std::string after = ReadBytes(ours_.File("a"));
    after.replace(72, 8, before.substr(72, 8));  // it may have been marked
    if (offset == kRefcountTable + 8) after.replace(offset, 8, before.substr(offset, 8));
    EXPECT_TRUE(after == before);
  }
}

// Subclusters that mean nothing are no loss.
TEST_F(DamageTest, ADiscardTakesOutWhatMeansNothing) {
  for (const uint64_t bitmap : {uint64_t{0x1ffffffff}, uint64_t{0xffffffffffffffff}}) {
    for (const char* const command : {"discard 64k 64k", "write -z -u 64k 64k"}) {
      SCOPED_TRACE(testing::Message() << bitmap << " " << command);
      MakeImage({"write 0 256k"}, "extended_l2=on");
      Put64(kL2 + 16 + 8, bitmap);
      EXPECT_EQ(
          Ringcow(ours_.path(), {"qemu-io", "-c", command, "-c", "read -P 0 64k 64k", "a"}).status,
          0);
      EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", "a"}).status, 0);
    }
  }
}

// The guest has the snapshot then, whatever the state before it was like.
TEST_F(DamageTest, OfWhatASnapshotReplacesLeaks) {
  MakeImage({"write -P 7 0 256k"});
  Make({"qemu-img", "snapshot", "-c", "s", "a"});
  Make({"qemu-io", "-c", "write -P 8 0 256k", "a"});
  const std::string bytes = ReadBytes(ours_.File("a"));
  uint64_t l2 = 0;
  for (int i = 1; i < 8; ++i) l2 = l2 << 8 | static_cast<uint8_t>(bytes[kL1 + i]);
  Put64(l2 + 16, kCopied | (kData + kCluster) | uint64_t{1} << 56);
  const Outcome applied = Ringcow(ours_.path(), {"qemu-img", "snapshot", "-a", "s", "a"});
  EXPECT_EQ(applied.status, 0) << applied;
  EXPECT_NE(applied.err.find("leaked"), std::string::npos) << applied;
  EXPECT_EQ(Qemu(ours_.path(), {"qemu-io", "-r", "-c", "read -P 7 0 256k", "a"}).status, 0);
  EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", "-r", "leaks", "a"}).status, 0);
}

// A flush at the end of each request meets it.
TEST_F(DamageTest, OfRefcountBlocksEndsARequestThatGivesUpClusters) {
  MakeImage({"write -P 7 0 512k"});
  Put64(kRefcountTable, kRefcountBlock + 0x200);
  const Outcome outcome =
      Ringcow(ours_.path(), {"qemu-io", "-c", "discard 0 128k", "-c", "read 256k 4k", "a"});
  EXPECT_NE(outcome.out.find("read failed: No medium found"), std::string::npos) << outcome;
  EXPECT_NE(Qemu(ours_.path(), {"qemu-img", "info", "a"}).out.find("corrupt: true"),
            std::string::npos);
}

}  // namespace
}  // namespace ringcow
