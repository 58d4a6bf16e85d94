// `amend`, side by side with qemu-img on the same images.

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/testing/sanitized.h"
#include "gtest/gtest.h"
#include "tests/cli_harness.h"

namespace ringcow {
namespace {

using Words = std::vector<std::string>;

class AmendTest : public testing::Test {
 protected:
  void RunBoth(const Words& words) {
    for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
      ASSERT_EQ(Qemu(scratch->path(), words).status, 0) << testing::PrintToString(words);
    }
  }

  // Zero clusters of all kinds, beside data.
  void MakeImage(const std::string& options, bool has_backing = false) {
    Words create = {"qemu-img", "create", "-q", "-f", "qcow2", "-o", options};
    if (has_backing) {
      RunBoth({"qemu-img", "create", "-q", "-f", "raw", "base", "4M"});
      RunBoth({"qemu-io", "-f", "raw", "-c", "write -P 9 0 4M", "base"});
      create.insert(create.end(), {"-b", "base", "-F", "raw"});
    }
    create.insert(create.end(), {"image", "4M"});
    RunBoth(create);
    RunBoth({"qemu-io", "-c", "write -P 1 0 300k", "-c", "write -z 64k 64k", "-c",
             "write -z 1M 512k", "-c", "write -z -u 128k 64k", "-c", "write -P 2 3M 5k", "image"});
  }

  Outcome Amend(const Words& arguments) {
    Words words = {"qemu-img", "amend"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    SCOPED_TRACE(testing::PrintToString(words));
    const Outcome ours = Ringcow(ours_.path(), words);
    EXPECT_EQ(ours, Qemu(theirs_.path(), words));
    return ours;
  }

  // "format-specific" alone: sizes may differ.
  static std::string Specific(const Outcome& info) {
    return info.out.substr(std::min(info.out.size(), info.out.find("Format specific")))
        .substr(0, info.out.find("Child node") - info.out.find("Format specific"));
  }

  void ExpectSameImages() {
    const Words info = {"qemu-img", "info", "image"};
    const Outcome ours = Qemu(ours_.path(), info);
    EXPECT_EQ(ours.status, 0) << ours;
    EXPECT_EQ(Specific(ours), Specific(Qemu(theirs_.path(), info)));
    EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", "image"}).status, 0);
    const Outcome compared =
        Qemu("/", {"qemu-img", "compare", ours_.File("image"), theirs_.File("image")});
    EXPECT_EQ(compared.status, 0) << compared;
  }

  const ScratchDirectory ours_;
  const ScratchDirectory theirs_;
};

TEST_F(AmendTest, ChangesWhatQemuChanges) {
  size_t n = 0;
  for (const char* created : {"compat=1.1", "compat=0.10", "compat=1.1,cluster_size=4k",
                              "compat=1.1,lazy_refcounts=on"}) {
    for (const char* options : {"compat=0.10", "compat=1.1", "compat=v3,lazy_refcounts=on",
                                "compat=v2,size=5M", "lazy_refcounts=off", "size=8M", "size=2M",
                                "size=0", "refcount_bits=16", "data_file_raw=off"}) {
      for (const bool has_backing : {false, true}) {
        if (n++ % kCaseStride != 0) continue;
        SCOPED_TRACE(absl::StrCat(created, " -> ", options, has_backing ? ", overlay" : ""));
        MakeImage(created, has_backing);
        EXPECT_EQ(Amend({"-o", options, "image"}).status, 0);
        ExpectSameImages();
      }
    }
  }
}

TEST_F(AmendTest, ChangesRefcountWidths) {
  for (const char* created : {"compat=0.10,cluster_size=4k", "compat=1.1,cluster_size=512"}) {
    MakeImage(created);
    // Version 2 takes 16 bits only, so some of these are refused.
    for (const char* options :
         {"refcount_bits=1", "compat=1.1,refcount_bits=1", "refcount_bits=64", "compat=0.10",
          "compat=0.10,refcount_bits=16", "compat=1.1,refcount_bits=8"}) {
      SCOPED_TRACE(absl::StrCat(created, " -> ", options));
      Amend({"-o", options, "image"});
      ExpectSameImages();
    }
    RunBoth({"qemu-img", "snapshot", "-c", "s", "image"});
    EXPECT_NE(Ringcow(ours_.path(), {"qemu-img", "amend", "-o", "refcount_bits=1", "image"}).status,
              0);
    EXPECT_EQ(Amend({"-o", "refcount_bits=2", "image"}).status, 0);
    ExpectSameImages();
  }
}

// Zero clusters that nobody has to see any more are none.
TEST_F(AmendTest, ForgetsZeroClustersOfSnapshots) {
  MakeImage("compat=1.1");
  RunBoth({"qemu-io", "-c", "write -z -u 0 1M", "image"});
  RunBoth({"qemu-img", "snapshot", "-c", "s", "image"});
  RunBoth({"qemu-io", "-c", "write -P 3 0 1M", "image"});
  EXPECT_EQ(Amend({"-o", "compat=0.10", "image"}).status, 0);
  ExpectSameImages();
  RunBoth({"qemu-img", "snapshot", "-a", "s", "image"});
  ExpectSameImages();
  // Snapshots of images of version 2 have no size of their own, so that the version comes first.
  EXPECT_EQ(Amend({"-o", "size=8M,compat=1.1", "image"}).status, 0);
  ExpectSameImages();
}

// Over a backing file they become bytes.
TEST_F(AmendTest, ExpandsZeroClustersOfSnapshots) {
  MakeImage("compat=1.1", /*has_backing=*/true);
  RunBoth({"qemu-img", "snapshot", "-c", "s", "image"});
  RunBoth({"qemu-io", "-c", "write -P 3 0 2M", "image"});
  RunBoth({"qemu-img", "snapshot", "-c", "t", "image"});
  EXPECT_EQ(Amend({"-o", "compat=0.10", "image"}).status, 0);
  ExpectSameImages();
  for (const char* snapshot : {"s", "t", "s"}) {
    RunBoth({"qemu-img", "snapshot", "-a", snapshot, "image"});
    ExpectSameImages();
  }
}

// Old versions of QEMU wrote no extra data, which version 3 demands.
TEST_F(AmendTest, CompletesOldSnapshots) {
  MakeImage("compat=0.10");
  RunBoth({"qemu-img", "snapshot", "-c", "s", "image"});
  for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
    std::string bytes = ReadBytes(scratch->File("image"));
    // The id and the name, behind 40 bytes of fixed fields and the extra data.
    const size_t names = bytes.find("1s", bytes.find(std::string("\0\0\0\x18", 4)));
    ASSERT_NE(names, std::string::npos);
    const size_t extra = names - 24;
    bytes.replace(extra, 26, std::string("1s") + std::string(24, '\0'));
    bytes[extra - 1] = '\0';
    WriteBytes(scratch->File("image"), bytes);
  }
  EXPECT_EQ(Qemu(ours_.path(), {"qemu-img", "check", "image"}).status, 0);
  EXPECT_EQ(Amend({"-o", "compat=1.1", "image"}).status, 0);
  ExpectSameImages();
  const Words list = {"qemu-img", "snapshot", "-l", "image"};
  EXPECT_EQ(Qemu(ours_.path(), list).out, Qemu(theirs_.path(), list).out);
}

// A table of a damaged image may be the place of something else.
TEST_F(AmendTest, DoesNotDowngradeADamagedImage) {
  MakeImage("compat=1.1");
  std::string bytes = ReadBytes(ours_.File("image"));
  constexpr size_t kRefcountOfTheHeader = 2 * 65536;
  bytes[kRefcountOfTheHeader + 1] = 0;
  WriteBytes(ours_.File("image"), bytes);
  const Outcome refused =
      Ringcow(ours_.path(), {"qemu-img", "amend", "-o", "compat=0.10", "image"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_TRUE(absl::StrContains(refused.err, "damaged")) << refused;
  EXPECT_EQ(ReadBytes(ours_.File("image")), bytes);
}

TEST_F(AmendTest, DowngradesWhatZstdHasNotCompressed) {
  for (const char* const write : {"write 0 64k", "write -c 0 64k"}) {
    RunBoth(
        {"qemu-img", "create", "-q", "-f", "qcow2", "-o", "compression_type=zstd", "image", "4M"});
    RunBoth({"qemu-io", "-c", write, "-c", "write -z 1M 64k", "image"});
    EXPECT_EQ(Amend({"-o", "compat=0.10", "image"}).status == 0, !absl::StrContains(write, "-c"));
    ExpectSameImages();
  }
}

TEST_F(AmendTest, NamesAnotherDataFile) {
  RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=data", "image", "1M"});
  RunBoth({"qemu-io", "-c", "write -P 1 0 64k", "image"});
  Amend({"-o", "data_file=other", "image"});
  for (const ScratchDirectory* scratch : {&ours_, &theirs_}) {
    WriteBytes(scratch->File("other"), ReadBytes(scratch->File("data")));
  }
  const Words info = {"qemu-img", "info", "image"};
  EXPECT_EQ(Specific(Qemu(ours_.path(), info)), Specific(Qemu(theirs_.path(), info)));
  EXPECT_EQ(Qemu(ours_.path(), {"qemu-io", "-c", "read -P 1 0 64k", "image"}).status, 0);
  Amend({"-o", "compat=0.10", "image"});
}

TEST_F(AmendTest, ShowsHowFarADowngradeHasCome) {
  RunBoth({"qemu-img", "create", "-q", "-f", "raw", "base", "2G"});
  RunBoth({"qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "raw", "image", "2G"});
  RunBoth({"qemu-io", "-c", "write -z 0 64k", "-c", "write -z 1G 128k", "image"});
  EXPECT_EQ(Amend({"-p", "-o", "compat=0.10", "image"}).status, 0);
  ExpectSameImages();
}

// One block more is needed for the new table, which shows when the others have their places.
TEST_F(AmendTest, ShowsThatNewRefcountsTakeLongerThanExpected) {
  const Words create = {
      "qemu-img", "create", "-q", "-f", "qcow2", "-o", "refcount_bits=1,cluster_size=512",
      "image",    "64k"};
  RunBoth(create);
  RunBoth({"qemu-io", "-c", "write 0 29k", "image"});
  const Words amend = {"qemu-img", "amend", "-p", "-o", "refcount_bits=64", "image"};
  const Outcome ours = Ringcow(ours_.path(), amend);
  EXPECT_EQ(ours.status, 0) << ours;
  // QEMU has smaller steps in between.
  EXPECT_NE(ours.out.find("(66.67/100%)\r    (50.00/100%)\r"), std::string::npos) << ours;
  EXPECT_NE(Qemu(theirs_.path(), amend).out.find("(66.67/100%)\r    (50.00/100%)\r"),
            std::string::npos);
  ExpectSameImages();
}

TEST_F(AmendTest, ComplainsInTheSameWords) {
  for (const char* created : {"compat=1.1", "compat=0.10"}) {
    MakeImage(created);
    for (const char* options : {"foo",
                                "foo=on",
                                "compat=bogus",
                                "compat=",
                                "compat",
                                "cluster_size=64k",
                                "preallocation=full",
                                "encryption=on",
                                "encrypt.format=luks",
                                "encrypt.state=active",
                                "extended_l2=on",
                                "compression_type=zstd",
                                "data_file=x",
                                "data_file_raw=on",
                                "backing_file=x",
                                "backing_file=",
                                "backing_fmt=raw",
                                "refcount_bits=7",
                                "refcount_bits=x",
                                "size=x",
                                "lazy_refcounts=maybe",
                                ",,"}) {
      EXPECT_NE(Amend({"-o", options, "image"}).status, 0);
    }
    for (const Words& arguments : std::vector<Words>{{},
                                                     {"image"},
                                                     {"-o", "size=1M"},
                                                     {"-o", "size=1M", "a", "b"},
                                                     {"-o", "size=1M", "missing"},
                                                     {"-f", "raw", "-o", "size=1M", "image"},
                                                     {"-f", "bogus", "-o", "size=1M", "image"},
                                                     {"-t", "bogus", "-o", "size=1M", "image"}}) {
      EXPECT_NE(Amend(arguments).status, 0);
    }
    ExpectSameImages();
  }
  MakeImage("compat=0.10");
  Amend({"-o", "lazy_refcounts=on", "image"});
  Amend({"-o", "refcount_bits=8", "image"});
  MakeImage("compat=1.1,refcount_bits=8");
  Amend({"-o", "compat=0.10", "image"});
  MakeImage("compat=1.1,extended_l2=on,cluster_size=64k");
  Amend({"-o", "compat=0.10", "image"});
  MakeImage("compat=1.1");
  RunBoth({"qemu-img", "snapshot", "-c", "s", "image"});
  Amend({"-o", "compat=0.10,size=8M", "image"});
}

}  // namespace
}  // namespace ringcow
