// Images by options (--image-opts, and -o of io's commands), side by side with QEMU's tools.

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

class ImageOptionsTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
      for (const Words& words :
           std::vector<Words>{{"qemu-img", "create", "-q", "-f", "qcow2", "base", "1M"},
                              {"qemu-io", "-c", "write -P 1 0 300k", "base"},
                              {"qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F",
                               "qcow2", "top", "2M"},
                              {"qemu-io", "-c", "write -P 2 64k 64k", "top"}}) {
        ASSERT_EQ(Qemu(scratch->path(), words).status, 0) << testing::PrintToString(words);
      }
    }
  }

  void ExpectSame(const Words& words) {
    SCOPED_TRACE(testing::PrintToString(words));
    Outcome ours = Ringcow(ours_.path(), words);
    Outcome theirs = Qemu(theirs_.path(), words);
    for (Outcome* outcome : {&ours, &theirs}) outcome->out = WithoutTimes(outcome->out);
    EXPECT_EQ(ours, theirs);
  }

  const ScratchDirectory ours_;
  const ScratchDirectory theirs_;
};

constexpr char kTop[] = "driver=qcow2,file.filename=top";

TEST_F(ImageOptionsTest, EveryCommandTakesThem) {
  for (const Words& words : std::vector<Words>{
           {"qemu-img", "map", "--image-opts", kTop},
           {"qemu-img", "check", "--image-opts", kTop},
           {"qemu-img", "snapshot", "-c", "s", "--image-opts", kTop},
           {"qemu-img", "measure", "-O", "qcow2", "--image-opts", kTop},
           {"qemu-img", "compare", "--image-opts", kTop, "driver=qcow2,file.filename=base"},
           {"qemu-img", "dd", "--image-opts", "-O", "raw", "if=driver=qcow2,file.filename=top",
            "of=copy"},
           {"qemu-img", "bitmap", "--add", "--image-opts", kTop, "b"},
           {"qemu-img", "bitmap", "--remove", "--image-opts", kTop, "b"},
           {"qemu-img", "convert", "--image-opts", kTop, "flat"},
           {"qemu-img", "convert", "-n", "--target-image-opts", "top",
            "driver=raw,file.filename=flat"},
           {"qemu-img", "convert", "-n", "--target-image-opts", "--image-opts", kTop,
            "driver=raw,file.filename=flat"},
           {"qemu-img", "amend", "-o", "lazy_refcounts=on", "--image-opts", kTop},
           {"qemu-img", "rebase", "-u", "-b", "base", "-F", "qcow2", "--image-opts", kTop},
           {"qemu-img", "commit", "--image-opts", kTop},
           {"qemu-img", "resize", "--image-opts", kTop, "4M"},
           {"qemu-io", "--image-opts", kTop, "-c", "read -P 1 0 64k", "-c", "length"},
           {"qemu-io", "--image-opts", "driver=qcow2,file.driver=file,file.filename=top", "-c",
            "read -P 1 0 64k"},
           {"qemu-img", "map", "--image-opts", "driver=raw,file.filename=base"},
           {"qemu-img", "map", "--image-opts", "file.filename=base"}}) {
    ExpectSame(words);
  }
  EXPECT_EQ(ReadBytes(ours_.File("flat")), ReadBytes(theirs_.File("flat")));
}

TEST_F(ImageOptionsTest, ComplainInTheSameWords) {
  for (const std::string options :
       {"top", "driver=bogus,file.filename=top", "driver=qcow2,file.filename=missing",
        "driver=qcow2,file.filename=top,foo=bar", "driver=qcow2,file=node", "driver=qcow2",
        "driver=qcow2,file.filename=top,l2-cache-size=1x",
        "driver=qcow2,file.filename=top,overlap-check=bogus"}) {
    for (const char* command : {"map", "info", "check"}) {
      ExpectSame({"qemu-img", command, "--image-opts", options});
    }
  }
  for (const char* command : {"map", "info", "check", "commit"}) {
    ExpectSame({"qemu-img", command, "--image-opts", "-f", "qcow2", kTop});
  }
  ExpectSame({"qemu-img", "measure", "--image-opts", "--size", "1M"});
  ExpectSame({"qemu-img", "convert", "-f", "qcow2", "--image-opts", kTop, "x"});
  ExpectSame({"qemu-img", "convert", "--target-image-opts", "top", "driver=raw,file.filename=x"});
  ExpectSame({"qemu-img", "convert", "-n", "-O", "raw", "--target-image-opts", "top",
              "driver=raw,file.filename=base"});
  ExpectSame({"qemu-io", "-f", "qcow2", "--image-opts", kTop, "-c", "quit"});
}

// A raw image in the middle of a file.
TEST_F(ImageOptionsTest, RawImagesMayBePartsOfFiles) {
  std::string bytes(1 << 20, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7919 >> 8);
  for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
    WriteBytes(scratch->File("disks"), bytes);
    Qemu(scratch->path(), {"qemu-img", "create", "-q", "-f", "raw", "copy", "2M"});
  }
  for (const std::string window :
       {"offset=64k,size=512k", "offset=1000,size=1k", "offset=1023k", "size=1M", "offset=1M"}) {
    const std::string image = "driver=raw,file.filename=disks," + window;
    for (const Words& words :
         std::vector<Words>{{"qemu-io",
                             "--image-opts",
                             image,
                             "-c",
                             "length",
                             "-c",
                             "read -v 0 8",
                             "-c",
                             "write -P 9 512 100",
                             "-c",
                             "read -v 508 8",
                             "-c",
                             "read 512k 512",
                             "-c",
                             "write -z 0 512",
                             "-c",
                             "discard 600 400",
                             "-c",
                             "map",
                             "-c",
                             "write 512k 1"},
                            {"qemu-img", "map", "--output=json", "--image-opts", image},
                            {"qemu-img", "convert", "-C", "--image-opts", image, "flat"},
                            {"qemu-img", "convert", "-C", "-n", "--target-image-opts", "flat",
                             "driver=raw,file.filename=copy,offset=128k"},
                            {"qemu-img", "resize", "--image-opts", image, "+1M"}}) {
      ExpectSame(words);
    }
    for (const char* name : {"disks", "flat", "copy"}) {
      EXPECT_TRUE(ReadBytes(ours_.File(name)) == ReadBytes(theirs_.File(name))) << window << name;
    }
  }
  ExpectSame({"qemu-img", "info", "--image-opts", "driver=raw,file.filename=disks,offset=1T"});
  const Outcome info = Ringcow(ours_.path(), {"qemu-img", "info", "--image-opts",
                                              "driver=raw,file.filename=disks,size=512k"});
  EXPECT_NE(info.out.find("virtual size: 512 KiB"), std::string::npos) << info;
}

TEST_F(ImageOptionsTest, OpenAndReopen) {
  ExpectSame({"qemu-io", "-c", "open -o driver=qcow2 top", "-c", "read -P 2 64k 64k", "-c",
              "reopen -o lazy-refcounts=on,l2-cache-size=1M", "-c", "read -P 1 0 64k", "-c",
              "close", "-c", "open -o driver=qcow2,file.filename=base", "-c", "read -P 1 0 64k"});
  ExpectSame({"qemu-io", "-c", "open -o driver=raw base", "-c", "length"});
  // How to open what the header names.
  ExpectSame({"qemu-io", "-c", "open -o backing.driver=raw top", "-c", "read -v 0 4"});
  ExpectSame({"qemu-io", "-c", "open -o cache-size=1.25M,l2-cache-size=1M top", "-c", "length"});
  ExpectSame(
      {"qemu-io", "-c", "open -o cache-size=1.25M,l2-cache-size=1M,refcount-cache-size=.25M top"});
  for (const std::string command :
       {"reopen -o foo=bar", "reopen -o driver=raw", "reopen -o cache-size=1x",
        "reopen -o overlap-check=bogus", "reopen -o l2-cache-size=2M,cache-size=1M"}) {
    ExpectSame({"qemu-io", "-c", command, "-c", "read -P 1 0 64k", "top"});
  }
  // What version 2 does not have.
  for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
    Qemu(scratch->path(),
         {"qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", "v2", "1M"});
  }
  ExpectSame({"qemu-io", "-c", "open -o lazy-refcounts=on v2", "-c", "open v2", "-c",
              "reopen -o lazy-refcounts=on", "-c", "reopen -o lazy-refcounts=off", "-c", "length"});
  ExpectSame({"qemu-io", "-c", "open -o foo=bar top", "-c", "open -o driver=qcow2,foo=bar top",
              "-c", "open -o driver=bogus top"});
}

}  // namespace
}  // namespace ringcow
