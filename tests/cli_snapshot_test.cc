// `snapshot`, side by side with qemu-img: the same words, and images that hold the same.

#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

class SnapshotTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
      Qemu(directory->path(), {"qemu-img", "create", "-q", "-f", "qcow2", "a", "4M"});
      Qemu(directory->path(), {"qemu-img", "create", "-q", "-f", "raw", "r", "1M"});
    }
  }

  static Outcome WithoutDates(Outcome outcome) {
    static const std::regex kDate(R"([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8})");
    outcome.out = std::regex_replace(outcome.out, kDate, "DATE");
    return outcome;
  }

  void ExpectSame(Words words) {
    words.insert(words.begin(), {"qemu-img", "snapshot"});
    SCOPED_TRACE(testing::PrintToString(words));
    EXPECT_EQ(WithoutDates(Ringcow(ours_.path(), words)),
              WithoutDates(Qemu(theirs_.path(), words)));
  }

  void WriteBoth(const std::string& command) const {
    for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
      EXPECT_EQ(Qemu(directory->path(), {"qemu-io", "-c", command, "a"}).status, 0);
    }
  }

  void ExpectSameDisks() const {
    const Outcome compared = Qemu("/", {"qemu-img", "compare", ours_.File("a"), theirs_.File("a")});
    EXPECT_EQ(compared.status, 0) << compared;
    EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", "a"}).status, 0);
  }

  const ScratchDirectory ours_;
  const ScratchDirectory theirs_;
};

TEST_F(SnapshotTest, NeedsClustersWithRefcounts) {
  for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
    Qemu(directory->path(),
         {"qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=data", "d", "4M"});
  }
  ExpectSame({"-l", "d"});
  ExpectSame({"-c", "one", "d"});
  ExpectSame({"-d", "one", "d"});
}

TEST_F(SnapshotTest, CreatesAppliesAndDeletes) {
  ExpectSame({"a"});
  ExpectSame({"-l", "a"});
  WriteBoth("write -q -P 1 0 1M");
  ExpectSame({"-c", "one", "a"});
  WriteBoth("write -q -P 2 512k 1M");
  ExpectSame({"-c", "one", "a"});
  ExpectSame({"-q", "-c", "2", "a"});
  ExpectSame({"-c", "", "a"});
  ExpectSame({"-l", "a"});
  ExpectSame({"--list", "-f", "qcow2", "a"});
  ExpectSame({"-U", "-l", "a"});
  WriteBoth("write -q -P 3 0 4M");
  ExpectSame({"-a", "one", "a"});
  ExpectSameDisks();
  ExpectSame({"-a", "2", "a"});  // an id before a name
  ExpectSameDisks();
  ExpectSame({"-d", "1", "a"});  // no id here
  ExpectSame({"-d", "2", "a"});
  ExpectSame({"-d", "one", "a"});
  ExpectSame({"a"});
  ExpectSame({"-d", "one", "a"});
  ExpectSame({"-d", "one", "a"});
  ExpectSame({"-c", std::string(300, 'n'), "a"});
  ExpectSame({"a"});
  ExpectSameDisks();
}

// Their image by us and ours by them.
TEST_F(SnapshotTest, UnderstandsTheOthersSnapshots) {
  WriteBoth("write -q -P 1 0 1M");
  Qemu(ours_.path(), {"qemu-img", "snapshot", "-c", "s", "a"});
  Ringcow(theirs_.path(), {"qemu-img", "snapshot", "-c", "s", "a"});
  WriteBoth("write -q -P 2 0 2M");
  ExpectSame({"-l", "a"});
  ExpectSame({"-a", "s", "a"});
  WriteBoth("read -P 1 0 1M");
  ExpectSameDisks();
  ExpectSame({"-d", "s", "a"});
  ExpectSameDisks();
}

TEST_F(SnapshotTest, RefusesTheSame) {
  for (const Words& words :
       {Words{}, Words{"-l"}, Words{"-l", "a", "r"}, Words{"-l", "-c", "x", "a"},
        Words{"-c", "x", "-d", "y", "a"}, Words{"-c", "a"}, Words{"-a", "nope", "a"},
        Words{"-d", "nope", "a"}, Words{"-l", "r"}, Words{"-l", "-f", "raw", "r"},
        Words{"-c", "x", "r"}, Words{"-c", "x", "-f", "raw", "r"},
        Words{"-a", "x", "-f", "raw", "r"}, Words{"-d", "x", "-f", "raw", "r"},
        Words{"-l", "missing"}, Words{"-U", "-c", "y", "a"}, Words{"-f", "raw", "-l", "a"},
        Words{"-f", "nope", "-l", "a"}}) {
    ExpectSame(words);
  }
}

// In images that both can open.
TEST_F(SnapshotTest, ComplainsAboutADamagedSnapshotInTheSameWords) {
  constexpr size_t kCluster = 65536;
  constexpr size_t kSnapshots = 7 * kCluster;  // behind what was written and the copy of L1
  const std::string misplaced("\0\0\0\0\0\x40\2\0", 8);
  const std::string too_large("\x10\0\0\0", 4);
  WriteBoth("write -q 0 512");
  ExpectSame({"-c", "one", "a"});
  const std::string sound = ReadBytes(theirs_.File("a"));
  for (const auto& [offset, bytes] : {std::pair(0, misplaced), std::pair(8, too_large)}) {
    std::string image = sound;
    image.replace(kSnapshots + offset, bytes.size(), bytes);
    for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
      WriteBytes(directory->File("a"), image);
    }
    ExpectSame({"-a", "one", "a"});
    ExpectSame({"-d", "one", "a"});
    for (const Words& words : {Words{"qemu-img", "convert", "-l", "one", "a", "b"},
                               Words{"qemu-img", "amend", "-o", "compat=0.10", "a"}}) {
      EXPECT_EQ(Ringcow(ours_.path(), words), Qemu(theirs_.path(), words));
    }
    EXPECT_EQ(Ringcow(ours_.path(), {"qemu-io", "-c", "read 0 512", "a"}).status, 0);
    EXPECT_EQ(ReadBytes(ours_.File("a")), image);
  }
}

// Behind the end of the file there are as many as the header says.
TEST_F(SnapshotTest, HasNoRoomForOneMore) {
  const std::string most("\0\1\0\0\0\0\0\0\1\0\0\0", 12);
  for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
    std::string image = ReadBytes(directory->File("a"));
    image.replace(60, most.size(), most);
    WriteBytes(directory->File("a"), image);
  }
  ExpectSame({"-c", "one", "a"});
  EXPECT_EQ(Ringcow(ours_.path(), {"qemu-io", "-c", "write -P 3 0 64k", "a"}).status, 0);
  EXPECT_EQ(Qemu(ours_.path(), {"qemu-io", "-c", "read -P 3 0 64k", "a"}).status, 0);
}

TEST_F(SnapshotTest, ComplainsOfNarrowRefcountsInTheSameWords) {
  for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
    const Words create = {"qemu-img", "create",          "-q", "-f", "qcow2",
                          "-o",       "refcount_bits=1", "a",  "4M"};
    EXPECT_EQ(Qemu(directory->path(), create).status, 0);
  }
  WriteBoth("write -q 0 512");
  ExpectSame({"-c", "one", "a"});
  // QEMU leaks the new L1 table.
  EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", "a"}).status, 0);
}

}  // namespace
}  // namespace ringcow
