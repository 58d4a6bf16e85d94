// `create`, side by side with qemu-img: the same command line must say the same, end with the same
// status and leave the same bytes behind.

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "engine/testing/sanitized.h"
#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

class CreateTest : public testing::Test {
 protected:
  // What is in each directory before.
  virtual void Prepare(const ScratchDirectory& /*directory*/) {}

  // Runs `qemu-img create` with both in a directory for each, and compares all there is.
  void ExpectSame(Words arguments) {
    Words words = {"qemu-img", "create"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    SCOPED_TRACE(testing::PrintToString(words));
    const ScratchDirectory ours;
    const ScratchDirectory theirs;
    Prepare(ours);
    Prepare(theirs);
    const std::vector<std::string> before = ours.List();
    const Outcome outcome = Ringcow(ours.path(), words);
    EXPECT_EQ(outcome, Qemu(theirs.path(), words));
    if (outcome.status != 0) {
      EXPECT_EQ(ours.List(), before);
      return;
    }
    ASSERT_EQ(ours.List(), theirs.List());
    for (const std::string& name : ours.List()) {
      EXPECT_TRUE(ReadBytes(ours.File(name)) == ReadBytes(theirs.File(name))) << name << " differs";
    }
  }

  void ExpectSameQcow2(const std::string& options, const std::string& size) {
    ExpectSame({"-f", "qcow2", "-o", options, "a.qcow2", size});
  }

  // Refused with `sentence`, where qemu-img would do it.
  void ExpectRefused(Words arguments, const std::string& sentence) {
    Words words = {"ringcow", "create"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    SCOPED_TRACE(testing::PrintToString(words));
    const ScratchDirectory directory;
    const Outcome outcome = Ringcow(directory.path(), words);
    EXPECT_EQ(outcome.status, 1);
    EXPECT_NE(outcome.err.find(sentence), std::string::npos) << outcome;
    EXPECT_TRUE(directory.List().empty());
  }
};

TEST_F(CreateTest, MakesTheSameImages) {
  ExpectSame({"-f", "qcow2", "a.qcow2", "64M"});
  ExpectSame({"-q", "-f", "qcow2", "a.qcow2", "1G"});
  ExpectSame({"-fqcow2", "--options=size=5M,cluster_size=4k", "a.qcow2"});
  ExpectSame({"a.qcow2", "-f", "qcow2", "-o", "cluster_size=4k", "-o", "cluster_size=8k", "1M"});
  ExpectSame({"-f", "qcow2", "--", "-a,b.qcow2", "1M"});
  ExpectSame({"-f", "qcow2", "file:a.qcow2", "1M"});
  ExpectSame({"-f", "qcow2", "./a:b.qcow2", "1M"});
  for (const char* cluster : {"512", "1k", "4096", "64K", "0x40000", "2M"}) {
    ExpectSameQcow2(std::string("cluster_size=") + cluster, "100M");
  }
  for (const char* bits : {"1", "2", "4", "8", "16", "32", "64", "0x10", "010"}) {
    ExpectSameQcow2(std::string("refcount_bits=") + bits, "10M");
  }
  for (const char* compat : {"0.10", "v2", "1.1", "v3"}) {
    ExpectSameQcow2(std::string("compat=") + compat, "10M");
  }
  ExpectSameQcow2("lazy_refcounts=on,compression_type=zstd,extended_l2=off", "10M");
  ExpectSameQcow2("lazy_refcounts", "10M");
  ExpectSameQcow2("nolazy_refcounts", "10M");
}

TEST_F(CreateTest, TakesTheSameSizes) {
  for (const char* size : {"0", "1", "512", "513", "1b", "10B", "1.5k", ".5k", "1.k", "0.1k", "1m",
                           "0x10", "010", " 5", "+5", "1T", "-0", "00001k"}) {
    ExpectSame({"-f", "qcow2", "a.qcow2", "--", size});
    ExpectSameQcow2(std::string("size=") + size, "");
  }
  for (const char* size : {"64X",
                           "-1",
                           "10E",
                           "1.5b",
                           "0x10k",
                           "1e3",
                           "1MiB",
                           "1kB",
                           "",
                           "-",
                           "18446744073709551615",
                           "18446744073709551616",
                           "9223372036854775808",
                           "inf",
                           "nan",
                           "0x1p3",
                           "1,5k",
                           "64M ",
                           "0x",
                           "x",
                           "8E"}) {
    ExpectSame({"-f", "qcow2", "a.qcow2", "--", size});
  }
}

TEST_F(CreateTest, PreallocatesTheSame) {
  for (const char* others : {"", ",cluster_size=512", ",compat=0.10", ",refcount_bits=1"}) {
    ExpectSameQcow2(std::string("preallocation=off") + others, "3M");
    ExpectSameQcow2(std::string("preallocation=metadata") + others, "3M");
  }
}

TEST_F(CreateTest, MakesTheSameDataFiles) {
  for (const char* raw : {"", ",data_file_raw=on", ",data_file_raw=off"}) {
    for (const char* others : {"", ",preallocation=metadata", ",preallocation=falloc",
                               ",preallocation=full", ",cluster_size=512,refcount_bits=1"}) {
      ExpectSameQcow2(std::string("data_file=data") + raw + others, "3M");
    }
  }
  ExpectSameQcow2("data_file=file:data", "1M");
  ExpectSameQcow2("data_file=data,extended_l2=on,cluster_size=16k", "3M");
  ExpectSameQcow2("data_file=data", "1000000");
  for (const char* bad : {"data_file_raw=on", "data_file=data,compat=0.10",
                          "data_file=", "data_file=data,data_file_raw=on,compat=v2",
                          "data_file=nowhere/data", "data_file=data,data_file_raw=maybe"}) {
    ExpectSameQcow2(bad, "1M");
  }
  ExpectSame({"-f", "qcow2", "-u", "-b", "base", "-F", "raw", "-o",
              "data_file=data,data_file_raw=on", "a", "1M"});
}

// QEMU moves the refcount table behind the data when it reserves space; ours stays where it is in
// every fresh image. What is reserved is the same.
TEST_F(CreateTest, ReservesAsMuch) {
  for (const std::string& mode : {std::string("falloc"), std::string("full")}) {
    for (const char* others : {"", ",cluster_size=512", ",compat=0.10", ",refcount_bits=1"}) {
      const Words words = {
          "qemu-img", "create", "-f", "qcow2", "-o", "preallocation=" + mode + others, "a", "3M"};
      SCOPED_TRACE(testing::PrintToString(words));
      const ScratchDirectory ours;
      const ScratchDirectory theirs;
      EXPECT_EQ(Ringcow(ours.path(), words), Qemu(theirs.path(), words));
      const auto map = [](const ScratchDirectory& directory) {
        return Qemu(directory.path(), {"qemu-img", "check", "a"}).out +
               Qemu(directory.path(),
                    {"qemu-io", "-r", "-c", "map", "-c", "read -P 0 -q 0 3M", "a"})
                   .out;
      };
      EXPECT_EQ(map(ours), map(theirs));
      struct stat our_file{};
      struct stat their_file{};
      ASSERT_EQ(stat(ours.File("a").c_str(), &our_file), 0);
      ASSERT_EQ(stat(theirs.File("a").c_str(), &their_file), 0);
      EXPECT_EQ(our_file.st_size, their_file.st_size);
      EXPECT_GE(our_file.st_blocks * 512, 3 << 20);
    }
  }
}

TEST_F(CreateTest, MakesTheSameRawFiles) {
  ExpectSame({"a.raw", "1000"});
  ExpectSame({"-f", "raw", "a.raw", "0"});
  for (const char* mode : {"off", "falloc", "full", "metadata", "some"}) {
    ExpectSame({"-f", "raw", "-o", std::string("preallocation=") + mode, "a.raw", "1000k"});
  }
  ExpectSame({"-f", "raw", "-o", "cluster_size=3", "a.raw", "1M"});
}

TEST_F(CreateTest, RefusesTheSameOptions) {
  for (const char* options : {"foo=1",
                              "cluster_size=3k",
                              "cluster_size=4M",
                              "cluster_size=256",
                              "cluster_size=-1",
                              "cluster_size=64KB",
                              "cluster_size",
                              "nocluster_size",
                              "cluster_size=4k,,x",
                              "cluster_size=99999999999999999999",
                              "refcount_bits=3",
                              "refcount_bits=128",
                              "refcount_bits=-1",
                              "refcount_bits=16k",
                              "refcount_bits=1.5",
                              "refcount_bits=",
                              "refcount_bits=18446744073709551616",
                              "lazy_refcounts=maybe",
                              "preallocation=maybe",
                              "compat=9",
                              "compat=",
                              "compat=a,,b",
                              "compression_type=lzma",
                              "compat=0.10,lazy_refcounts=on",
                              "compat=0.10,refcount_bits=8",
                              "compat=0.10,compression_type=zstd",
                              "size=1M",
                              "=5",
                              "",
                              ",",
                              ",cluster_size=4k",
                              "cluster_size=64k,"}) {
    ExpectSameQcow2(options, "1M");
  }
  ExpectSameQcow2("cluster_size=512", "1T");
  ExpectSameQcow2("cluster_size=64k", "7E");
}

TEST_F(CreateTest, RefusesTheSameCommandLines) {
  for (const Words& arguments : std::vector<Words>{
           {},
           {"a"},
           {"-f"},
           {"-f", "qcow2", "a"},
           {"-f", "qcow2", "a", "1", "2"},
           {"-f", "nonsense", "a", "1M"},
           {"-f", "qcow2", "nowhere/a", "1M"},
           {"-f", "qcow2", "nonsense:a", "1M"},
           {"-z"},
           {"--nonsense"},
           {"--o"},
           {"--help=3"},
           {"--format"},
       }) {
    ExpectSame(arguments);
  }
}

TEST_F(CreateTest, RefusesWhatItCannotDo) {
  ExpectRefused({"-f", "qcow2", "-o", "encrypt.format=luks", "a", "1M"}, "'encrypt.format'");
  ExpectRefused({"-f", "vmdk", "a", "1M"}, "Format driver 'vmdk' does not support image creation");
  ExpectRefused({"-f", "vdmk", "a", "1M"}, "Unknown file format 'vdmk'");
  ExpectRefused({"--object", "secret,id=s", "a", "1M"}, "--object");
}

TEST_F(CreateTest, ListsItsOptionsInQemusWords) {
  const ScratchDirectory directory;
  for (const Words& words : {Words{"qemu-img", "create", "-f", "qcow2", "-o", "help", "a", "1M"},
                             Words{"qemu-img", "create", "-f", "qcow2", "-o", "help"},
                             Words{"qemu-img", "create", "-o", "size=1M,?"},
                             Words{"qemu-img", "amend", "-f", "qcow2", "-o", "help"}}) {
    SCOPED_TRACE(testing::PrintToString(words));
    EXPECT_EQ(Ringcow(directory.path(), words).out, Qemu(directory.path(), words).out);
  }
  EXPECT_TRUE(directory.List().empty());
}

TEST_F(CreateTest, ReplacesAFileOnlyWhenTheOptionsAreRight) {
  const ScratchDirectory directory;
  const std::string old_bytes(3 << 20, 'x');
  WriteBytes(directory.File("a"), old_bytes);
  const Words bad = {"qemu-img", "create", "-f", "qcow2", "-o", "cluster_size=3k", "a", "1M"};
  EXPECT_EQ(Ringcow(directory.path(), bad).status, 1);
  EXPECT_TRUE(ReadBytes(directory.File("a")) == old_bytes);

  const Words good = {"qemu-img", "create", "-f", "qcow2", "a", "1M"};
  EXPECT_EQ(Ringcow(directory.path(), good).status, 0);
  const ScratchDirectory theirs;
  EXPECT_EQ(Qemu(theirs.path(), good).status, 0);
  EXPECT_TRUE(ReadBytes(directory.File("a")) == ReadBytes(theirs.File("a")));
}

TEST_F(CreateTest, LeavesNothingBehindWhenTheDiskIsFull) {
  for (const char* preallocation : {"off", "metadata", "falloc", "full"}) {
    for (const bool was_there : {false, true}) {
      SCOPED_TRACE(preallocation);
      const ScratchDirectory directory;
      if (was_there) WriteBytes(directory.File("a"), "something");
      const Outcome outcome =
          RunTool({.words = {"ringcow", "create", "-f", "qcow2", "-o",
                             std::string("preallocation=") + preallocation, "a", "64M"},
                   .directory = directory.path(),
                   .max_file_bytes = 0x18000});
      EXPECT_EQ(outcome.status, 1) << outcome;
      EXPECT_NE(outcome.err.find("File too large"), std::string::npos) << outcome;
      if (was_there) {
        EXPECT_EQ(ReadBytes(directory.File("a")), "");
      } else {
        EXPECT_TRUE(directory.List().empty());
      }
    }
  }
}

// In a directory with these: base.qcow2 and base.raw of 1 MiB, base_above.qcow2 on base.qcow2,
// orphan.qcow2 whose backing file is missing, and an empty directory d.
class OverlayTest : public CreateTest {
 protected:
  void Prepare(const ScratchDirectory& directory) override {
    const auto create = [&directory](Words words) {
      words.insert(words.begin(), {"qemu-img", "create", "-q", "-f"});
      EXPECT_EQ(Qemu(directory.path(), words), Outcome());
    };
    create({"qcow2", "base.qcow2", "1M"});
    create({"raw", "base.raw", "1000k"});
    create({"qcow2", "-b", "base.qcow2", "-F", "qcow2", "above.qcow2", "2M"});
    create({"qcow2", "-u", "-b", "missing", "-F", "qcow2", "orphan.qcow2", "2M"});
  }
};

TEST_F(OverlayTest, MakesTheSameOverlays) {
  for (const Words& backing : SomeOf(std::vector<Words>{
           Words{"-b", "base.qcow2", "-F", "qcow2"}, Words{"-b", "base.raw", "-F", "raw"},
           Words{"-b", "base.qcow2", "-F", "raw"}, Words{"-b", "above.qcow2", "-F", "qcow2"},
           Words{"-b", "./base.qcow2", "-F", "qcow2"},
           Words{"-b", "file:base.qcow2", "-F", "qcow2"},
           Words{"-F", "qcow2", "-o", "backing_file=base.qcow2"},
           Words{"-o", "backing_file=base.qcow2,backing_fmt=qcow2"},
           Words{"-b", "base.raw", "-F", "raw", "-o", "backing_file=other,backing_fmt=qcow2"},
           Words{"-u", "-b", "missing", "-F", "qcow2", "-o", "size=3M"},
           Words{"-u", "-b", "a,b", "-F", "raw", "-o", "size=3M"},
           Words{"-b", R"(json:{"driver":"raw","file.filename":"base.raw"})", "-F", "raw"}})) {
    Words words = {"-f", "qcow2", "a.qcow2"};
    words.insert(words.end(), backing.begin(), backing.end());
    ExpectSame(words);
    words.insert(words.begin(), "-q");
    words.insert(words.end(), {"-o", "extended_l2=on"});
    ExpectSame(words);
  }
  const Words overlay = {"-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "a.qcow2"};
  for (const char* size : {"512", "1M", "3M", "1G"}) {
    Words words = overlay;
    words.emplace_back(size);
    ExpectSame(words);
  }
  for (const char* options :
       {"cluster_size=512", "compat=0.10", "cluster_size=2M", "extended_l2=on,cluster_size=16k",
        "extended_l2=on,preallocation=metadata", "extended_l2=on,preallocation=falloc",
        "extended_l2=on,preallocation=full"}) {
    Words words = overlay;
    words.insert(words.end(), {"-o", options});
    ExpectSame(words);
  }
}

TEST_F(OverlayTest, RefusesTheSame) {
  for (const Words& rest : SomeOf(std::vector<Words>{
           Words{"-b", "base.qcow2"},
           Words{"-b", "base.raw"},
           Words{"-b", "missing", "-F", "qcow2"},
           Words{"-b", "missing", "-F", "qcow2", "-o", "size=1M"},
           Words{"-u", "-b", "missing", "-F", "qcow2"},
           Words{"-u", "-b", "missing", "-o", "size=1M"},
           Words{"-F", "qcow2", "-o", "size=1M"},
           Words{"-F", "qcow2"},
           Words{"-b", "base.raw", "-F", "qcow2"},
           Words{"-b", "base.qcow2", "-F", "nope"},
           Words{"-u", "-b", "base.qcow2", "-F", "nope", "-o", "size=1M"},
           Words{"-b", "a.qcow2", "-F", "qcow2"},
           Words{"-b", "", "-F", "qcow2"},
           Words{"-o", "backing_file="},
           Words{"-b", "orphan.qcow2", "-F", "qcow2"},
           Words{"-b", "foo:bar", "-F", "raw"},
           Words{"-b", "json:{}", "-F", "raw"},
           Words{"-b", "base.qcow2", "-F", "qcow2", "-o", "preallocation=full"},
           Words{"-b", "base.qcow2", "-F", "qcow2", "-o", "extended_l2=on,compat=0.10"},
           Words{"-b", "base.qcow2", "-F", "qcow2", "-o", "extended_l2=on,cluster_size=8k"}})) {
    Words words = {"-f", "qcow2", "a.qcow2"};
    words.insert(words.end(), rest.begin(), rest.end());
    ExpectSame(words);
  }
  for (const Words& rest : {Words{"-b", "base.raw"}, Words{"-b", "base.raw", "-F", "raw"},
                            Words{"-F", "raw", "-o", "size=1M"}}) {
    Words words = {"-f", "raw", "a.raw"};
    words.insert(words.end(), rest.begin(), rest.end());
    ExpectSame(words);
  }
}

// What the file system makes of it.
uint32_t ExtentSizeHintOf(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  fsxattr attributes{};
  (void)ioctl(fd, FS_IOC_FSGETXATTR, &attributes);
  (void)close(fd);
  return attributes.fsx_extsize;
}

TEST_F(CreateTest, TellsTheFileSystem) {
  for (const char* format : {"raw", "qcow2"}) {
    for (const char* options :
         {"nocow=on", "nocow=off", "nocow=on,extent_size_hint=64k", "extent_size_hint=0",
          "extent_size_hint=1000", "extent_size_hint=4G", "extent_size_hint=x"}) {
      ExpectSame({"-f", format, "-o", options, "a", "1M"});
      ExpectSame({"-q", "-f", format, "-o", options, "a", "1M"});
    }
    const ScratchDirectory ours;
    const ScratchDirectory theirs;
    // Over a file that is there, which has to become empty first.
    for (const ScratchDirectory* one : {&ours, &theirs}) {
      WriteBytes(one->File("a"), std::string(100'000, 'x'));
    }
    const Words words = {"qemu-img", "create", "-f", format, "-o", "extent_size_hint=128k",
                         "a",        "1M"};
    EXPECT_EQ(Ringcow(ours.path(), words), Qemu(theirs.path(), words));
    EXPECT_EQ(ExtentSizeHintOf(ours.File("a")), ExtentSizeHintOf(theirs.File("a")));
  }
}

}  // namespace
}  // namespace ringcow
