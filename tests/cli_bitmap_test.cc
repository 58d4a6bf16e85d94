// `ringcow bitmap` and `qemu-img bitmap`, side by side: the same words, the same exit status, and
// the same bitmaps afterwards.

#include <cstdint>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qcow2/image.h"
#include "tests/cli_harness.h"
#include "tests/support/hosts.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

// What is in all bitmaps of an image, as text.
std::string BitmapsOf(const std::string& path) {
  FileHost host(path);
  OpenOptions options = ReadOnly();
  options.replaces_backing = true;  // by none: bitmaps need no data
  const absl::StatusOr<std::unique_ptr<Image>> image = Open(host.disk(), options);
  if (!image.ok()) return image.status().ToString();
  const auto entries = host.loop().Run((*image)->ListBitmaps());
  if (!entries.ok()) return entries.status().ToString();
  std::string text;
  for (const BitmapDirectoryEntry& entry : *entries) {
    text += entry.name + (entry.automatic ? " auto" : "") + (entry.in_use ? " in-use" : "") + " " +
            std::to_string(entry.granularity_bits) + ":";
    if (entry.usable()) {
      const auto bits = host.loop().Run((*image)->ReadBitmap(entry.name));
      if (!bits.ok()) return bits.status().ToString();
      for (auto range = bits->NextDirty(GuestOffset(0)); range.has_value();
           range = bits->NextDirty(range->offset + range->bytes)) {
        text += " " + std::to_string(range->offset.value()) + "+" + std::to_string(range->bytes);
      }
    }
    text += "\n";
  }
  return text;
}

class BitmapTest : public testing::Test {
 protected:
  void SetUp() override {
    RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "a", "8M"});
    RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "-b", "a", "-F", "qcow2", "overlay"});
    RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "larger", "9M"});
    RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", "v2", "1M"});
    RunBoth({"qemu-img", "create", "-q", "-f", "raw", "raw", "1M"});
  }

  void RunBoth(const Words& words) const {
    for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
      const Outcome outcome = Qemu(directory->path(), words);
      EXPECT_EQ(outcome.status, 0) << outcome;
    }
  }
  // The guest's writes, by each with its own program.
  void Write(const std::string& name, const std::string& command) const {
    const Words words = {"qemu-io", "-f", "qcow2", "-c", command, name};
    EXPECT_EQ(Ringcow(ours_.path(), words).status, 0);
    EXPECT_EQ(Qemu(theirs_.path(), words).status, 0);
  }

  // QEMU makes up a name for what it was not given one for.
  static Outcome WithoutNodeNames(Outcome outcome) {
    static const std::regex kPrefix("Can't make bitmap '[^']*' persistent in '[^']*': ");
    outcome.err = std::regex_replace(outcome.err, kPrefix, "");
    static const std::regex kNode("to (#block[0-9]+|raw):");
    outcome.err = std::regex_replace(outcome.err, kNode, "to NODE:");
    return outcome;
  }

  void ExpectSame(Words words) {
    const std::string name = words.size() > 1 ? words[words.size() - 2] : "";
    words.insert(words.begin(), {"qemu-img", "bitmap"});
    SCOPED_TRACE(testing::PrintToString(words));
    EXPECT_EQ(WithoutNodeNames(Ringcow(ours_.path(), words)),
              WithoutNodeNames(Qemu(theirs_.path(), words)));
    if (name == "a" || name == "overlay") ExpectSameBitmaps(name);
  }

  void ExpectSameBitmaps(const std::string& name) {
    EXPECT_EQ(BitmapsOf(ours_.File(name)), BitmapsOf(theirs_.File(name)));
    for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
      const Outcome check = Qemu(directory->path(), {"qemu-img", "check", name});
      EXPECT_EQ(check.status, 0) << check;
    }
  }

  const ScratchDirectory ours_;
  const ScratchDirectory theirs_;
};

// A bitmap that is in use, as after a crash.
void Break(const std::string& image, uint64_t at) {
  std::string bytes = ReadBytes(image);
  ASSERT_LT(at, bytes.size());
  bytes[at] |= 1;
  WriteBytes(image, bytes);
}

TEST_F(BitmapTest, ConvertCopiesThem) {
  RunBoth({"qemu-img", "bitmap", "--add", "a", "one"});
  RunBoth({"qemu-img", "bitmap", "--add", "--disable", "-g", "4k", "a", "two"});
  RunBoth({"qemu-io", "-c", "write 1M 100k", "-c", "write 5M 1k", "a"});
  RunBoth({"qemu-img", "bitmap", "--merge", "one", "a", "two"});
  const auto expect_same = [this](Words words) {
    words.insert(words.begin(), {"qemu-img", "convert"});
    SCOPED_TRACE(testing::PrintToString(words));
    EXPECT_EQ(Ringcow(ours_.path(), words), Qemu(theirs_.path(), words));
  };
  expect_same({"--bitmaps", "-O", "qcow2", "a", "copy"});
  ExpectSameBitmaps("copy");
  EXPECT_EQ(BitmapsOf(ours_.File("copy")), BitmapsOf(ours_.File("a")));
  expect_same({"--bitmaps", "-O", "raw", "a", "other"});
  expect_same({"--bitmaps", "-f", "raw", "-O", "qcow2", "raw", "other"});
  expect_same({"--bitmaps", "-O", "qcow2", "v2", "other"});
  expect_same({"--bitmaps", "-O", "qcow2", "-o", "compat=0.10", "a", "other"});
  expect_same({"--bitmaps", "-O", "qcow2", "a", "a", "other"});
  expect_same({"--skip-broken-bitmaps", "-O", "qcow2", "a", "other"});

  // The first entry of the directory; its flags follow two fields of 8 and 4 bytes.
  for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
    const std::string bytes = ReadBytes(directory->File("a"));
    const size_t extension = bytes.find(std::string("\x23\x85\x28\x75\0\0\0\x18", 8));
    ASSERT_NE(extension, std::string::npos);
    uint64_t place = 0;
    for (int i = 0; i < 8; ++i) {
      place = place << 8 | static_cast<uint8_t>(bytes[extension + 24 + static_cast<size_t>(i)]);
    }
    Break(directory->File("a"), place + 15);
  }
  expect_same({"--bitmaps", "-O", "qcow2", "a", "other"});
  expect_same({"--bitmaps", "--skip-broken-bitmaps", "-O", "qcow2", "a", "other"});
  ExpectSameBitmaps("other");
}

TEST_F(BitmapTest, DoesTheSame) {
  ExpectSame({"--add", "a", "one"});
  Write("a", "write 1M 100k");
  ExpectSame({"--add", "--disable", "-g", "4k", "a", "two"});
  ExpectSame({"--add", "-g", "0", "-f", "qcow2", "a", "three"});
  Write("a", "write -z 3M 64k");
  Write("a", "discard 5M 128k");
  ExpectSameBitmaps("a");
  ExpectSame({"--merge", "one", "a", "two"});
  ExpectSame({"--clear", "a", "one"});
  Write("a", "write 7M 1k");
  ExpectSame({"--enable", "a", "two"});
  Write("a", "write 0 1k");
  ExpectSame({"--disable", "a", "one"});
  Write("a", "write 2M 1k");
  ExpectSameBitmaps("a");
  ExpectSame({"--add", "-g", "2M", "--merge", "two", "--merge", "one", "--disable", "a", "all"});
  ExpectSame({"--add", "overlay", "o"});
  ExpectSame({"--merge", "all", "-b", "a", "-F", "qcow2", "overlay", "o"});
  ExpectSame({"--merge", "all", "-b", "a", "overlay", "o"});
  // Into the backing file, which is open twice then.
  ExpectSame({"--merge", "o", "-b", "overlay", "-F", "qcow2", "a", "all"});
  ExpectSame({"--remove", "a", "two"});
  for (const char* name : {"one", "three", "all"}) ExpectSame({"--remove", "a", name});
  ExpectSame({"--enable", "--disable", "overlay", "o"});
  ExpectSame({"--add", "--remove", "a", "gone"});
}

TEST_F(BitmapTest, RefusesTheSame) {
  RunBoth({"qemu-img", "bitmap", "--add", "a", "b"});
  RunBoth({"qemu-img", "bitmap", "--add", "larger", "l"});
  const std::string long_name(1024, 'x');
  for (const Words& words : std::vector<Words>{
           {},
           {"a"},
           {"a", "b"},
           {"--add", "a"},
           {"--add", "a", "b", "c"},
           {"--add", "a", "b"},
           {"--add", "a", ""},
           {"--add", "a", long_name},
           {"--remove", "a", "nope"},
           {"--clear", "a", "nope"},
           {"--enable", "a", "nope"},
           {"--disable", "a", "nope"},
           {"--merge", "nope", "a", "b"},
           {"--merge", "b", "a", "nope"},
           {"--merge", "nope", "a", "nope2"},
           {"--merge", "l", "-b", "larger", "a", "b"},
           {"--merge", "nope", "-b", "larger", "a", "b"},
           {"--merge", "b", "-b", "nofile", "a", "b"},
           {"--merge", "x", "-b", "raw", "-F", "raw", "a", "b"},
           {"--add", "-g", "3k", "a", "c"},
           {"--add", "-g", "256", "a", "c"},
           {"--add", "-g", "4G", "a", "c"},
           {"--add", "-g", "x", "a", "c"},
           {"--add", "-g", "-1", "a", "c"},
           {"--clear", "-g", "4k", "a", "b"},
           {"--clear", "-b", "a", "a", "b"},
           {"--clear", "-F", "raw", "a", "b"},
           {"--clear", "-b", "a", "-F", "raw", "-g", "4k", "a", "b"},
           {"--add", "--add", "a", "twice"},
           {"--remove", "--clear", "a", "b"},
           {"--add", "nofile", "b"},
           {"--add", "-f", "nonsense", "a", "b"},
           {"--add", "-f", "raw", "raw", "b"},
           {"--remove", "-f", "raw", "raw", "b"},
           {"--add", "v2", "b"},
           {"--merge", "x", "v2", "x"},
           {"-q", "--add", "a", "c"},
           {"--nonsense"},
       }) {
    ExpectSame(words);
  }
}

TEST_F(BitmapTest, RefusesInconsistentOnesAlike) {
  RunBoth({"qemu-img", "bitmap", "--add", "a", "b"});
  RunBoth({"qemu-img", "bitmap", "--add", "--disable", "a", "good"});
  for (const ScratchDirectory* directory : {&ours_, &theirs_}) {
    // IN_USE, as after a crash: in the first entry of the directory, which the last extension
    // names.
    std::string bytes = ReadBytes(directory->File("a"));
    const size_t extension = bytes.find("\x23\x85\x28\x75");
    ASSERT_NE(extension, std::string::npos);
    uint64_t offset = 0;
    for (size_t i = 0; i < 8; ++i) {
      offset = offset << 8 | static_cast<unsigned char>(bytes[extension + 24 + i]);
    }
    bytes[offset + 15] = static_cast<char>(bytes[offset + 15] | 1);
    WriteBytes(directory->File("a"), bytes);
  }
  ExpectSame({"--clear", "a", "b"});
  ExpectSame({"--enable", "a", "b"});
  ExpectSame({"--disable", "a", "b"});
  ExpectSame({"--merge", "b", "a", "good"});
  ExpectSame({"--merge", "good", "a", "b"});
  ExpectSame({"--add", "a", "b"});
  Write("a", "write 0 64k");
  ExpectSameBitmaps("a");
  ExpectSame({"--remove", "a", "b"});
  ExpectSame({"--add", "a", "b"});
}

}  // namespace
}  // namespace ringcow
