// `check -r`, side by side with qemu-img: the same words, exit codes and JSON, and images that hold
// the same and are clean.

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

// Of a fresh image of QEMU: its refcount block and its first L2 table, once there is one.
constexpr size_t kRefcountBlock = 2 * 65536;
constexpr size_t kL2Table = 4 * 65536;

class CheckRepairTest : public testing::Test {
 protected:
  void SetUp() override {
    Qemu(pristine_.path(), {"qemu-img", "create", "-q", "-f", "qcow2", "a", "4M"});
    Qemu(pristine_.path(), {"qemu-io", "-c", "write -P 5 0 256k", "a"});
    original_ = ReadBytes(pristine_.File("a"));
  }

  // The same image for both, with some bytes in place of others.
  void Damage(size_t offset, const std::string& bytes) {
    std::string image = original_;
    image.replace(offset, bytes.size(), bytes);
    for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
      WriteBytes(directory->File("a"), image);
    }
  }

  void ExpectSame(Words words) {
    words.insert(words.begin(), {"qemu-img", "check"});
    SCOPED_TRACE(testing::PrintToString(words));
    EXPECT_EQ(Ringcow(ours_.path(), words), Qemu(theirs_.path(), words));
  }

  void ExpectRepaired() const {
    EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", "a"}).status, 0);
    const Outcome compared =
        Qemu("/", {"qemu-img", "compare", ours_.File("a"), pristine_.File("a")});
    EXPECT_EQ(compared.status, 0) << compared;
  }

  const ScratchDirectory pristine_;
  const ScratchDirectory ours_;
  const ScratchDirectory theirs_;
  std::string original_;
};

// Refcounts have two bytes.
const std::string kLeak("\0\1", 2);
const std::string kTooHigh("\0\2", 2);
const std::string kNone("\0\0", 2);

TEST_F(CheckRepairTest, Leaks) {
  Damage(kRefcountBlock + 2 * 5, kTooHigh);
  ExpectSame({"a"});
  ExpectSame({"-r", "leaks", "a"});
  ExpectRepaired();
  ExpectSame({"-r", "leaks", "a"});
  Damage(kRefcountBlock + 2 * 5, kTooHigh);
  ExpectSame({"-r", "all", "--output=json", "a"});
  ExpectRepaired();
  Damage(kRefcountBlock + 2 * 5, kTooHigh);
  ExpectSame({"-q", "-r", "all", "a"});
  ExpectRepaired();
}

// What stops a guest does not stop a check.
TEST_F(CheckRepairTest, HeadersOfImagesThatCannotBeUsed) {
  const auto be = [](uint64_t value, int bytes) {
    std::string text;
    while (bytes-- > 0) text.push_back(static_cast<char>(value >> (8 * bytes)));
    return text;
  };
  const std::vector<std::pair<size_t, std::string>> damages = {
      {48, be(uint64_t{1} << 30, 8)},  // the refcount table behind the end of the file
      {56, be(0, 4)},                  // of no clusters
  };
  for (const auto& [offset, bytes] : damages) {
    SCOPED_TRACE(offset);
    Damage(offset, bytes);
    ExpectSame({"a"});
    ExpectSame({"-r", "all", "a"});
    ExpectRepaired();
    ExpectSame({"a"});
  }
}

// Nor does what only the guest would need.
TEST_F(CheckRepairTest, BackingFilesOfOtherKinds) {
  for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
    ASSERT_EQ(Qemu(directory->path(), {"qemu-img", "create", "-q", "-f", "vmdk", "base", "1M"}),
              Outcome());
    ASSERT_EQ(Qemu(directory->path(),
                   {"qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "vmdk", "top"}),
              Outcome());
  }
  ExpectSame({"top"});
  // What nobody knows is an error all the same.
  for (const char* backing :
       {"foo:bar", R"(json:{"driver":"qcow2","file":{"driver":"nonsense"}})"}) {
    for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
      Qemu(directory->path(), {"qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F",
                               "qcow2", "top", "1M"});
    }
    ExpectSame({"top"});
  }
  Damage(0, "");
  ExpectSame({"--image-opts", "driver=qcow2,file.filename=a,backing.driver=nonsense"});
  Damage(32, std::string("\0\0\0\2", 4));  // LUKS, without its header
  ExpectSame({"a"});
  ExpectSame({"-r", "all", "a"});
}

// A header names a file, which may look like something else.
TEST_F(CheckRepairTest, TheDataFileIsNoProtocol) {
  for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
    Qemu(directory->path(),
         {"qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=file_d", "b", "1M"});
    std::string image = ReadBytes(directory->File("b"));
    image.replace(image.find("file_d"), 6, "file:d");
    WriteBytes(directory->File("b"), image);
    WriteBytes(directory->File("d"), std::string(1 << 20, 'x'));
  }
  ExpectSame({"b"});
  WriteBytes(ours_.File("file:d"), std::string(1 << 20, 'y'));
  EXPECT_EQ(Ringcow(ours_.path(), {"qemu-io", "-c", "write -P 5 0 1M", "b"}).status, 0);
  EXPECT_EQ(ReadBytes(ours_.File("file:d")), std::string(1 << 20, 5));
  EXPECT_EQ(ReadBytes(ours_.File("d")), std::string(1 << 20, 'x'));
}

// The image itself would be fine.
TEST_F(CheckRepairTest, TheOtherFilesOfAnImageHaveToBeThere) {
  for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
    const auto create = [directory](Words words) {
      words.insert(words.begin(), {"qemu-img", "create", "-q", "-f", "qcow2"});
      ASSERT_EQ(Qemu(directory->path(), words), Outcome());
    };
    create({"base", "1M"});
    create({"-b", "base", "-F", "qcow2", "top"});
    create({"-b", "top", "-F", "qcow2", "uppermost"});
    create({"-o", "data_file=data", "with_data", "1M"});
  }
  for (const char* image : {"top", "uppermost", "with_data"}) ExpectSame({image});
  ExpectSame({"--image-opts", "driver=qcow2,file.filename=top,data-file.filename=data"});
  for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
    for (const char* gone : {"base", "data"}) unlink(directory->File(gone).c_str());
  }
  for (const char* image : {"top", "uppermost", "with_data"}) {
    ExpectSame({image});
    ExpectSame({"-r", "all", image});
    ExpectSame({"--output=json", image});
  }
}

TEST_F(CheckRepairTest, LostRefcounts) {
  Damage(kRefcountBlock + 2 * 5, kNone);
  ExpectSame({"-r", "leaks", "a"});
  ExpectSame({"-r", "all", "a"});
  ExpectRepaired();
  ExpectSame({"-r", "all", "--output", "json", "a"});
}

TEST_F(CheckRepairTest, Flags) {
  Damage(kL2Table, std::string("\0", 1));
  ExpectSame({"--repair=leaks", "a"});
  ExpectSame({"--repair=all", "a"});
  ExpectRepaired();
}

TEST_F(CheckRepairTest, SnapshotTables) {
  Qemu(pristine_.path(), {"qemu-img", "snapshot", "-c", "one", "a"});
  Qemu(pristine_.path(), {"qemu-img", "snapshot", "-c", "two", "a"});
  original_ = ReadBytes(pristine_.File("a"));
  size_t table = 0;
  for (size_t i = 64; i < 72; ++i) table = table << 8 | static_cast<uint8_t>(original_[i]);
  constexpr size_t kExtraDataSize = 36;
  constexpr size_t kSnapshotCount = 60;
  for (const auto& [offset, bytes] : {std::pair(table + kExtraDataSize, std::string("\0\0\4\1", 4)),
                                      {kSnapshotCount, std::string("\0\0\0\1", 4)}}) {
    Damage(offset, bytes);
    ExpectSame({"a"});
    ExpectSame({"-r", "leaks", "a"});
    ExpectSame({"-r", "all", "a"});
    ExpectRepaired();
  }
}

TEST_F(CheckRepairTest, WhatIsNotRepaired) {
  // An L2 entry that is not aligned.
  Damage(kL2Table + 6, std::string("\2", 1));
  ExpectSame({"-r", "all", "a"});
  ExpectSame({"-r", "all", "--output=json", "a"});
}

TEST_F(CheckRepairTest, Misuse) {
  Damage(0, "");
  Words words = {"-r", "some", "a"};
  words.insert(words.begin(), {"qemu-img", "check"});
  EXPECT_EQ(Ringcow(ours_.path(), words).status, Qemu(theirs_.path(), words).status);
  EXPECT_EQ(ReadBytes(ours_.File("a")), original_);
  Qemu(ours_.path(), {"qemu-img", "create", "-q", "-f", "raw", "r", "1M"});
  Qemu(theirs_.path(), {"qemu-img", "create", "-q", "-f", "raw", "r", "1M"});
  ExpectSame({"-f", "raw", "-r", "all", "r"});
  ExpectSame({"-r", "all", "missing"});
}

}  // namespace
}  // namespace ringcow
