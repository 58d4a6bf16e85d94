// `info` and `check`, side by side with qemu-img on the same files.

#include <filesystem>
#include <string>
#include <vector>

#include "engine/testing/sanitized.h"
#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

class InfoTest : public testing::Test {
 protected:
  // A tool of QEMU's, to make an image.
  void Make(const Words& words) {
    const Outcome outcome = Qemu(directory_.path(), words);
    ASSERT_EQ(outcome.status, 0) << testing::PrintToString(words) << outcome;
  }
  void Patch(const std::string& name, size_t offset, const std::string& bytes) {
    std::string image = ReadBytes(directory_.File(name));
    image.replace(offset, bytes.size(), bytes);
    WriteBytes(directory_.File(name), image);
  }
  void ExpectSame(const Words& words) {
    EXPECT_EQ(Ringcow(directory_.path(), words), Qemu(directory_.path(), words))
        << testing::PrintToString(words);
  }
  void ExpectSameInfo(const std::string& name) {
    ExpectSame({"qemu-img", "info", name});
    ExpectSame({"qemu-img", "info", "--output=json", name});
  }
  void ExpectSameCheck(const std::string& name) {
    ExpectSame({"qemu-img", "check", name});
    ExpectSame({"qemu-img", "check", "-q", name});
    ExpectSame({"qemu-img", "check", "-f", "qcow2", "--output", "json", name});
  }

  const ScratchDirectory directory_;
};

TEST_F(InfoTest, OfFreshImages) {
  const std::vector<std::string> option_lists = {"compat=1.1",
                                                 "compat=0.10",
                                                 "lazy_refcounts=on",
                                                 "compression_type=zstd",
                                                 "cluster_size=512,refcount_bits=1",
                                                 "cluster_size=2M,refcount_bits=64",
                                                 "extended_l2=on"};
  for (const std::string& options : SomeOf(option_lists)) {
    for (const char* size : {"0", "1", "1023M", "1234567890", "5G", "2T"}) {
      if (options == "cluster_size=512,refcount_bits=1" && std::string(size) == "2T") continue;
      Make({"qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "a", size});
      ExpectSameInfo("a");
      if (options != "extended_l2=on") ExpectSameCheck("a");
    }
  }
}

TEST_F(InfoTest, OfRawFiles) {
  for (const size_t bytes : {0, 1, 1000, 1023, 1024, 197120, 999 * 1024, 1000 * 1024}) {
    WriteBytes(directory_.File("a"), std::string(bytes, 'x'));
    ExpectSameInfo("a");
    ExpectSame({"qemu-img", "info", "-f", "raw", "a"});
    ExpectSame({"qemu-img", "check", "a"});
  }
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "q", "1M"});
  ExpectSame({"qemu-img", "info", "-f", "raw", "--output=json", "q"});
  ExpectSame({"qemu-img", "check", "-f", "raw", "q"});
}

TEST_F(InfoTest, OfBackingFiles) {
  std::filesystem::create_directory(directory_.File("sub"));
  Make({"qemu-img", "create", "-q", "-f", "raw", "base", "1M"});
  const Words create = {"qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b"};
  for (const char* backing : {"base", "../base", "/nowhere/base", "nbd:host:1", "json:x", "a b"}) {
    for (const char* name : {"a", "sub/a"}) {
      Words words = create;
      words.insert(words.end(), {backing, name, "1M"});
      Make(words);
      ExpectSameInfo(name);
      ExpectSameInfo(std::string("./") + name);
      ExpectSameInfo(directory_.File(name));
    }
  }
}

TEST_F(InfoTest, OfBackingChains) {
  Make({"qemu-img", "create", "-q", "-f", "raw", "a", "1M"});
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "-b", "a", "-F", "raw", "b"});
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "-b", directory_.File("b"), "-F", "qcow2", "c"});
  for (const char* output : {"human", "json"}) {
    const std::string option = std::string("--output=") + output;
    for (const char* name : {"a", "b", "c"}) {
      ExpectSame({"qemu-img", "info", "--backing-chain", option, name});
    }
    ExpectSame({"qemu-img", "info", "--backing-chain", option, "--image-opts",
                "driver=qcow2,file.filename=c"});
    ExpectSame({"qemu-img", "info", "--backing-chain", option, "-f", "raw", "c"});
  }
  // A loop, and an end that is not there.
  Make({"qemu-img", "rebase", "-u", "-b", "c", "-F", "qcow2", "b"});
  ExpectSame({"qemu-img", "info", "--backing-chain", directory_.File("b")});
  Make({"qemu-img", "rebase", "-u", "-b", "gone", "-F", "qcow2", "b"});
  ExpectSame({"qemu-img", "info", "--backing-chain", "c"});
}

TEST_F(InfoTest, OfSnapshots) {
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "a", "1M"});
  Make({"qemu-img", "snapshot", "-c", "one", "a"});
  Make({"qemu-img", "snapshot", "-c", "a name longer than its column", "a"});
  ExpectSameInfo("a");
  ExpectSameCheck("a");
  // A table longer than what is read of it at first.
  const std::string long_name(255, 'n');
  for (int i = 0; i < 40; ++i) Make({"qemu-img", "snapshot", "-c", long_name, "a"});
  ExpectSameInfo("a");
}

TEST_F(InfoTest, OfBitmaps) {
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "a", "64M"});
  Make({"qemu-img", "bitmap", "--add", "a", "one"});
  Make({"qemu-img", "bitmap", "--add", "--disable", "-g", "4k", "a", "two"});
  ExpectSameInfo("a");
  ExpectSameCheck("a");
}

TEST_F(InfoTest, OfEncryptionAndDataFiles) {
  const std::string secret = "secret,id=s,data=abc";
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "--object", secret, "-o",
        "encrypt.format=aes,encrypt.key-secret=s", "aes", "1M"});
  ExpectSameInfo("aes");
  for (const char* raw : {"on", "off"}) {
    Make({"qemu-img", "create", "-q", "-f", "qcow2", "-o",
          std::string("data_file=data,data_file_raw=") + raw, "ext", "1M"});
    ExpectSameInfo("ext");
  }
  // The LUKS header is not read: only that there is one is told.
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "--object", secret, "-o",
        "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "luks", "1M"});
  const Outcome outcome = Ringcow(directory_.path(), {"qemu-img", "info", "luks"});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_NE(outcome.out.find("encrypted: yes\n"), std::string::npos) << outcome;
  EXPECT_NE(outcome.out.find("    encrypt:\n        format: luks\n"), std::string::npos) << outcome;
}

TEST_F(InfoTest, OfFlaggedImages) {
  constexpr size_t kLowestIncompatibleByte = 79;
  for (const char flags : {1, 2, 3, 4}) {
    Make({"qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", "a", "1M"});
    Patch("a", kLowestIncompatibleByte, std::string(1, flags));
    ExpectSameInfo("a");
  }
  for (const char flags : {'\x80', '\x20', '\x08'}) {
    Make({"qemu-img", "create", "-q", "-f", "qcow2", "a", "1M"});
    Patch("a", kLowestIncompatibleByte, std::string(1, flags));
    ExpectSameInfo("a");
    ExpectSame({"qemu-img", "check", "a"});
  }
}

TEST_F(InfoTest, OfStrangeNames) {
  for (const std::string& name :
       {std::string("quote\"back\\slash"), std::string("tab\tnew\nline\x01\x7f"),
        std::string("\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x84"),
        std::string("bad\xff\xc3(\xed\xa0\x80"),
        std::string("over\xc0\x80long\xc1\x80\xf4\x90\x80\x80"), std::string("./a:b"),
        std::string("percent%s%n")}) {
    Make({"qemu-img", "create", "-q", "-f", "qcow2", name, "1M"});
    ExpectSameInfo(name);
    ExpectSame({"qemu-img", "check", "--output=json", name});
  }
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "a", "1M"});
  ExpectSameInfo("file:a");
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "./a:b", "1M"});
  ExpectSameInfo("file:a:b");
  ExpectSame({"qemu-img", "check", "--output=json", "file:a"});
}

TEST_F(InfoTest, OfWhatCannotBeOpened) {
  for (const char* command : {"info", "check"}) {
    ExpectSame({"qemu-img", command});
    ExpectSame({"qemu-img", command, "a", "b"});
    ExpectSame({"qemu-img", command, "missing"});
    ExpectSame({"qemu-img", command, "nonsense:a"});
    ExpectSame({"qemu-img", command, "--output=xml", "a"});
    ExpectSame({"qemu-img", command, "--output"});
    ExpectSame({"qemu-img", command, "-f", "nonsense", "missing"});
    ExpectSame({"qemu-img", command, "-z", "a"});
    ExpectSame({"qemu-img", command, "--o", "a"});
    WriteBytes(directory_.File("a"), "not qcow2");
    ExpectSame({"qemu-img", command, "-f", "qcow2", "a"});
  }
  ExpectSame({"qemu-img", "check", "-T", "nonsense", "a"});
}

TEST_F(InfoTest, ChecksWrittenImages) {
  for (const std::string& options :
       {std::string("cluster_size=64k"), std::string("cluster_size=512"),
        std::string("refcount_bits=1,cluster_size=4k"), std::string("compat=0.10")}) {
    Make({"qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "a", "64M"});
    Make({"qemu-io", "-f", "qcow2", "-c", "write -q 0 1M", "-c", "write -q 33M 10k", "-c",
          "write -q -z 2M 1M", "-c", "discard -q 0 128k", "a"});
    ExpectSameCheck("a");
    ExpectSameInfo("a");
  }
  Make({"qemu-img", "create", "-q", "-f", "qcow2", "c", "4M"});
  Make({"qemu-io", "-f", "qcow2", "-c", "write -q 0 2M", "-c", "write -q -c 2M 1M", "c"});
  ExpectSameCheck("c");
}

TEST_F(InfoTest, ChecksDamagedImages) {
  // A fresh image's tables: refcount block at 0x20000, L2 table at 0x40000, data from 0x50000 on.
  const auto make = [this] {
    Make({"qemu-img", "create", "-q", "-f", "qcow2", "a", "64M"});
    Make({"qemu-io", "-f", "qcow2", "-c", "write -q 0 1M", "a"});
  };
  make();
  Patch("a", 0x40008, std::string(8, '\0'));  // an L2 entry less: a leak
  ExpectSameCheck("a");
  make();
  Patch("a", 0x2000e, std::string(2, '\0'));  // a refcount of 0: a corruption
  ExpectSameCheck("a");
  Patch("a", 0x40008, std::string(8, '\0'));  // both
  ExpectSameCheck("a");
}

}  // namespace
}  // namespace ringcow
