// `convert`, `compare`, `dd` and `measure`, side by side with qemu-img: the same arguments on the
// same images must say the same, and what they make must hold the same in the same places.

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

class ConvertTest : public testing::Test {
 protected:
  // The same sources for both.
  void SetUp() override {
    RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "a", "4M"});
    RunBoth({"qemu-io", "-c", "write -P 1 0 128k", "-c", "write -z 2M 64k", "-c",
             "write -P 2 3333k 100", "a"});
    RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "-b", "a", "-F", "qcow2", "over", "5M"});
    RunBoth({"qemu-io", "-c", "write -P 4 64k 3k", "-c", "write -z 1M 64k", "-c",
             "write -P 5 4500k 64k", "-c", "write -z 256k 64k", "over"});
    std::string bytes(100'000, 'x');
    bytes += std::string(100'000, '\0') + std::string(3000, 'y') + std::string(5000, '\0') + "z";
    for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
      WriteBytes(scratch->File("raw"), bytes);
    }
  }

  void RunBoth(const Words& words) {
    for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
      ASSERT_EQ(Qemu(scratch->path(), words).status, 0) << testing::PrintToString(words);
    }
  }

  void ExpectSame(const Words& arguments) {
    Words words = {"qemu-img"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    SCOPED_TRACE(testing::PrintToString(words));
    EXPECT_EQ(Ringcow(ours_.path(), words), Qemu(theirs_.path(), words));
  }

  // The same bytes, and the same of them allocated.
  void ExpectSameImages(const std::string& format, const std::string& name) {
    const Outcome compared = Qemu("/", {"qemu-img", "compare", "-s", "-f", format, "-F", format,
                                        ours_.File(name), theirs_.File(name)});
    EXPECT_EQ(compared.status, 0) << name << compared;
    if (format == "qcow2") {
      EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", name}).status, 0) << name;
    }
  }

  const ScratchDirectory ours_;
  const ScratchDirectory theirs_;
};

TEST_F(ConvertTest, CopiesImagesOfEveryFormat) {
  for (const char* source : {"a", "over", "raw"}) {
    for (const Words& options :
         std::vector<Words>{{"-O", "raw"},
                            {"-O", "qcow2"},
                            {"-O", "qcow2", "-S", "64k"},
                            // One at a time, so that all is in one piece, up to the end: that shows
                            // in the block status.
                            {"-m", "1", "-O", "qcow2", "-S", "0"},
                            {"-O", "raw", "-S", "0"},
                            {"-O", "qcow2", "-o", "cluster_size=4k"},
                            {"-O", "qcow2", "-o", "compat=0.10"},
                            {"-O", "qcow2", "-c"},
                            {"-O", "qcow2", "-c", "-S", "0", "-W"},
                            {"-O", "qcow2", "-c", "-o", "compression_type=zstd,cluster_size=16k"},
                            {"-O", "qcow2", "-t", "none", "-T", "none"},
                            {"-p", "-m", "1", "-O", "qcow2"}}) {
      Words arguments = {"convert"};
      arguments.insert(arguments.end(), options.begin(), options.end());
      if (source == std::string("raw")) arguments.insert(arguments.end(), {"-f", "raw"});
      arguments.insert(arguments.end(), {source, "out"});
      SCOPED_TRACE(testing::PrintToString(arguments));
      ExpectSame(arguments);
      ExpectSameImages(options[1] == "raw" ? "raw" : "qcow2", "out");
    }
  }
}

TEST_F(ConvertTest, CopiesOverlaysAndParts) {
  ExpectSame({"convert", "-O", "qcow2", "-B", "a", "-F", "qcow2", "over", "out"});
  ExpectSameImages("qcow2", "out");
  ExpectSame({"convert", "-O", "qcow2", "-B", "a", "-F", "qcow2", "a", "out"});
  ExpectSameImages("qcow2", "out");
  ExpectSame({"convert", "-O", "qcow2", "a", "over", "out"});
  ExpectSameImages("qcow2", "out");
  ExpectSame({"convert", "-O", "qcow2", "-W", "-m", "16", "over", "out"});
  EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "compare", "over", "out"}).status, 0);
}

TEST_F(ConvertTest, WritesIntoWhatIsThere) {
  RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "large", "10M"});
  RunBoth({"qemu-io", "-c", "write -P 9 1M 6M", "large"});
  ExpectSame({"convert", "-n", "-O", "qcow2", "over", "large"});
  EXPECT_EQ(Qemu("/", {"qemu-img", "compare", ours_.File("large"), theirs_.File("large")}).status,
            0);
  RunBoth({"qemu-img", "create", "-q", "-f", "raw", "file", "6M"});
  RunBoth({"qemu-io", "-f", "raw", "-c", "write -P 9 0 6M", "file"});
  ExpectSame({"convert", "-n", "-O", "raw", "over", "file"});
  ExpectSameImages("raw", "file");
  RunBoth({"qemu-img", "create", "-q", "-f", "raw", "file", "6M"});
  ExpectSame({"convert", "-n", "--target-is-zero", "-O", "raw", "over", "file"});
  ExpectSameImages("raw", "file");
}

TEST_F(ConvertTest, ReadsSnapshots) {
  RunBoth({"qemu-img", "snapshot", "-c", "before", "a"});
  RunBoth({"qemu-io", "-c", "write -P 7 0 4M", "a"});
  for (const char* choice : {"before", "1", "snapshot.name=before", "snapshot.id=1",
                             "snapshot.id=1,snapshot.name=before"}) {
    ExpectSame({"convert", "-l", choice, "-O", "qcow2", "a", "out"});
    ExpectSameImages("qcow2", "out");
  }
  for (const char* choice : {"none", "snapshot.id=before", "snapshot.id=1,snapshot.name=x"}) {
    ExpectSame({"convert", "-l", choice, "a", "out"});
  }
  ExpectSame({"convert", "-l", "1", "a", "over", "out"});
  ExpectSame({"measure", "-l", "before", "-O", "qcow2", "a"});
}

// QEMU would give it the size that the disk has now.
TEST_F(ConvertTest, GivesASnapshotTheSizeItHad) {
  RunBoth({"qemu-img", "snapshot", "-c", "before", "a"});
  RunBoth({"qemu-img", "convert", "-O", "raw", "a", "was"});
  RunBoth({"qemu-img", "resize", "-q", "a", "6M"});
  RunBoth({"qemu-io", "-c", "write -P 7 0 6M", "a"});
  ASSERT_EQ(Ringcow(ours_.path(), {"qemu-img", "convert", "-l", "before", "a", "out"}).status, 0);
  EXPECT_TRUE(ReadBytes(ours_.File("out")) == ReadBytes(ours_.File("was")));
}

TEST_F(ConvertTest, SavesWhatCanBeRead) {
  // A compressed cluster of rubbish, between others.
  RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "broken", "64k"});
  RunBoth({"qemu-io", "-c", "write -P 7 0 64k", "-c", "discard 8k 4k", "-c", "write -c -P 8 8k 4k",
           "-c", "write -P 9 12k 4k", "broken"});
  for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
    // Its stream is short, and in the cluster that the discarded one left or at the end: the only
    // bytes that are neither.
    std::string bytes = ReadBytes(scratch->File("broken"));
    const size_t l2 = bytes.find(std::string("\x40", 1), 0x4000);
    ASSERT_NE(l2, std::string::npos);
    uint64_t place = 0;
    for (size_t i = 0; i < 8; ++i) place = place << 8 | static_cast<uint8_t>(bytes[l2 + i]);
    place &= (uint64_t{1} << 58) - 1;
    ASSERT_LT(place, bytes.size());
    bytes[place] = '\xff';
    WriteBytes(scratch->File("broken"), bytes);
  }
  // What is wrong is said in other words.
  const auto both = [this](const Words& words) {
    const Outcome ours = Ringcow(ours_.path(), words);
    const Outcome theirs = Qemu(theirs_.path(), words);
    EXPECT_EQ(ours.status, theirs.status) << ours << theirs;
    EXPECT_EQ(std::count(ours.err.begin(), ours.err.end(), '\n'),
              std::count(theirs.err.begin(), theirs.err.end(), '\n'))
        << ours << theirs;
    return ours.status;
  };
  EXPECT_EQ(both({"qemu-img", "convert", "-O", "raw", "broken", "out"}), 1);
  EXPECT_EQ(both({"qemu-img", "convert", "--salvage", "-O", "raw", "broken", "out"}), 0);
  EXPECT_EQ(ReadBytes(ours_.File("out")), ReadBytes(theirs_.File("out")));
  EXPECT_EQ(ReadBytes(ours_.File("out")).substr(0, 0x2000), std::string(0x2000, '\x07'));
  EXPECT_EQ(both({"qemu-img", "convert", "-q", "--salvage", "-O", "raw", "broken", "out"}), 0);
}

TEST_F(ConvertTest, KeepsToARate) {
  RunBoth({"qemu-io", "-c", "write -P 1 0 4M", "a"});
  const auto begin = std::chrono::steady_clock::now();
  ExpectSame({"convert", "-r", "0", "-O", "qcow2", "a", "out"});
  const Words words = {"qemu-img", "convert", "-r", "4M", "-O", "qcow2", "a", "slow"};
  EXPECT_EQ(Ringcow(ours_.path(), words).status, 0);
  // 4 MiB, of which the last request may be written at once.
  EXPECT_GT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(400));
  const Outcome compared = Qemu("/", {"qemu-img", "compare", ours_.File("a"), ours_.File("slow")});
  EXPECT_EQ(compared.status, 0) << compared;
}

// Bytes of its file that have space.
int64_t SpaceOf(const std::string& path) {
  struct stat info{};
  EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
  return int64_t{info.st_blocks} * 512;
}

TEST_F(ConvertTest, LeavesCopiesToTheHost) {
  for (const Words& arguments : std::vector<Words>{{"a"},
                                                   {"over"},
                                                   {"-W", "over"},
                                                   {"-f", "raw", "raw"},
                                                   {"-t", "writethrough", "-m", "1", "over"},
                                                   {"over", "a"},
                                                   {"-l", "snapshot.name=nothing", "a"}}) {
    Words words = {"convert", "-C", "-O", "raw"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    words.emplace_back("out");
    ExpectSame(words);
    EXPECT_TRUE(ReadBytes(ours_.File("out")) == ReadBytes(theirs_.File("out")));
  }
  ExpectSame({"convert", "-C", "-O", "qcow2", "over", "out"});
  ExpectSameImages("qcow2", "out");
}

// Zeroes that were written are looked for where bytes pass through, and not where they do not.
TEST_F(ConvertTest, CopiesZeroesAsTheyAreOnTheHost) {
  constexpr int64_t kBytes = 4 << 20;
  for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
    WriteBytes(scratch->File("zeroes"), std::string(kBytes, '\0'));
  }
  ExpectSame({"convert", "-f", "raw", "-O", "raw", "zeroes", "out"});
  EXPECT_LT(SpaceOf(ours_.File("out")), kBytes);
  ExpectSame({"convert", "-C", "-f", "raw", "-O", "raw", "zeroes", "out"});
  if (SpaceOf(theirs_.File("out")) < kBytes) GTEST_SKIP() << "the file system copies nothing";
  EXPECT_GE(SpaceOf(ours_.File("out")), kBytes);
}

TEST_F(ConvertTest, ComplainsInTheSameWords) {
  RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "small", "1M"});
  for (const Words& arguments :
       std::vector<Words>{{},
                          {"a"},
                          {"-O", "bogus", "a", "o"},
                          {"-f", "bogus", "a", "o"},
                          {"missing", "o"},
                          {"-n", "a", "missing"},
                          {"-o", "bogus=1", "-O", "qcow2", "a", "o"},
                          {"-o", "cluster_size=1", "-O", "qcow2", "a", "o"},
                          {"-S", "3", "a", "o"},
                          {"-S", "1G", "a", "o"},
                          {"-S", "x", "a", "o"},
                          {"-c", "-O", "raw", "a", "o"},
                          {"-c", "-o", "preallocation=metadata", "-O", "qcow2", "a", "o"},
                          {"-m", "17", "a", "o"},
                          {"-m", "x", "a", "o"},
                          {"-t", "bogus", "a", "o"},
                          {"-T", "bogus", "a", "o"},
                          {"-B", "a", "-O", "raw", "a", "o"},
                          {"-B", "a", "-O", "qcow2", "a", "o"},
                          {"-F", "raw", "-O", "qcow2", "a", "o"},
                          {"--target-is-zero", "a", "o"},
                          {"-n", "-o", "size=1M", "-O", "raw", "a", "o"},
                          {"-n", "-O", "qcow2", "a", "small"},
                          {"-n", "a", "a"},
                          {"-O", "qcow2", "a", "a"},
                          {"-r", "x", "a", "o"},
                          {"-r", "-1", "a", "o"},
                          {"-r", "16E", "a", "o"},
                          {"-C", "-c", "-O", "qcow2", "a", "o"},
                          {"-C", "-S", "4k", "a", "o"},
                          {"-C", "--salvage", "a", "o"},
                          {"-O", "qcow2", "-o", "backing_file=a", "a", "o"}}) {
    Words words = {"convert"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    ExpectSame(words);
  }
}

TEST_F(ConvertTest, Compares) {
  RunBoth({"qemu-img", "convert", "-O", "raw", "over", "flat"});
  RunBoth({"qemu-img", "convert", "-O", "qcow2", "over", "other"});
  RunBoth({"qemu-io", "-c", "write -P 6 1234567 1", "other"});
  RunBoth({"qemu-img", "convert", "-O", "qcow2", "a", "longer"});
  RunBoth({"qemu-img", "resize", "-q", "longer", "6M"});
  RunBoth({"qemu-img", "convert", "-O", "qcow2", "longer", "more"});
  RunBoth({"qemu-io", "-c", "write -P 6 5555k 1k", "more"});
  for (const Words& names : std::vector<Words>{{"over", "flat"},
                                               {"over", "other"},
                                               {"a", "longer"},
                                               {"longer", "a"},
                                               {"a", "more"},
                                               {"more", "a"},
                                               {"a", "raw"},
                                               {"a", "missing"},
                                               {"missing", "a"},
                                               {"a", "a"},
                                               {"-f", "raw", "-F", "raw", "a", "flat"},
                                               {"-T", "bogus", "a", "over"},
                                               {"-f", "bogus", "a", "over"},
                                               {"a"},
                                               {"a", "over", "flat"}}) {
    for (const char* option : {"-U", "-q", "-p", "-s"}) {
      if (option == std::string("-s") && names[0] == "over") continue;  // where it begins
      Words words = {"compare", option};
      words.insert(words.end(), names.begin(), names.end());
      ExpectSame(words);
    }
  }
}

TEST_F(ConvertTest, DoesWhatDdDoes) {
  for (const Words& arguments :
       std::vector<Words>{{"if=a", "of=out"},
                          {"bs=1M", "count=2", "skip=1", "if=a", "of=out"},
                          {"bs=777", "skip=3", "count=99", "if=a", "of=out"},
                          {"bs=100", "count=3", "if=a", "of=out"},
                          {"if=a", "of=out", "skip=100000"},
                          {"if=a", "of=out", "count=0"},
                          {"if=a", "of=out", "bs=1M", "count=100"},
                          {"if=a"},
                          {},
                          {"if=a", "of=b", "foo=1"},
                          {"a", "b"},
                          {"if=a", "of=out", "bs=0"},
                          {"if=a", "of=out", "bs=x"},
                          {"if=a", "of=out", "bs=3G"},
                          {"if=a", "of=out", "count=x"},
                          {"if=missing", "of=out"},
                          {"-O", "bogus", "if=a", "of=out"},
                          {"if=a", "of=a"},
                          {"if=a", "of=nowhere/out"}}) {
    Words words = {"dd"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    ExpectSame(words);
    EXPECT_EQ(ReadBytes(ours_.File("out")), ReadBytes(theirs_.File("out")));
  }
  ExpectSame({"dd", "-O", "qcow2", "bs=1M", "skip=1", "if=over", "of=out2"});
  EXPECT_EQ(Qemu("/", {"qemu-img", "compare", ours_.File("out2"), theirs_.File("out2")}).status, 0);
}

TEST_F(ConvertTest, Measures) {
  for (const Words& arguments : std::vector<Words>{
           {"--size", "1G"},
           {"--size", "1G", "-O", "qcow2"},
           {"--size", "0", "-O", "qcow2"},
           {"--size", "1P", "-O", "qcow2", "--output=json"},
           {"-O", "qcow2", "-o", "cluster_size=512,refcount_bits=64", "--size", "1G"},
           {"-O", "qcow2", "-o", "preallocation=full", "--size", "1G"},
           {"-O", "qcow2", "-o", "extended_l2=on", "--size", "1G"},
           {"-O", "qcow2", "a"},
           {"-O", "qcow2", "--output=json", "over"},
           {"-O", "qcow2", "-o", "cluster_size=4k", "over"},
           {"-O", "qcow2", "-o", "backing_file=a,backing_fmt=qcow2", "over"},
           {"-O", "raw", "over"},
           {"-O", "qcow2", "-f", "raw", "raw"},
           {},
           {"--size", "1G", "a"},
           {"a", "over"},
           {"--size", "x"},
           {"-O", "bogus", "a"},
           {"-O", "qcow2", "-o", "cluster_size=1", "a"},
           {"-O", "qcow2", "-o", "bogus=1", "a"},
           {"-O", "qcow2", "-o", "extended_l2=on", "--size", "1025T"},
           {"-l", "s", "a"},
           {"-f", "qcow2"}}) {
    Words words = {"measure"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    ExpectSame(words);
  }
}

}  // namespace
}  // namespace ringcow
