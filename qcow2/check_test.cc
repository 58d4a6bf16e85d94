// Images that QEMU made are clean, and the counts are qemu-img's. Fails when qemu-img or qemu-io is
// missing.

#include "qcow2/check.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "engine/uring_disk.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qcow2/check_oracle.h"

namespace ringcow {
namespace {

using ::testing::IsEmpty;

void ExpectCleanAsQemu(const std::string& options, const std::string& size,
                       const std::vector<std::string>& commands) {
  SCOPED_TRACE(options);
  const ImageFile file(options, size, commands);
  const CheckReport report = CheckFile(file.path());
  EXPECT_EQ(report.exit_code, 0);
  EXPECT_THAT(report.lines, IsEmpty());
  EXPECT_EQ(report, QemuCheck(file.path()));
}

TEST(CheckTest, EveryClusterSizeAndRefcountWidth) {
  for (uint64_t cluster = 512; cluster <= (uint64_t{2} << 20); cluster *= 2) {
    ExpectCleanAsQemu(absl::StrCat("cluster_size=", cluster), "8M",
                      {"write 0 300k", "write 5M 4k", "write -z 1M 128k"});
  }
  for (const char* cluster : {"512", "4k", "2M"}) {
    for (const int bits : {1, 2, 4, 8, 32, 64}) {
      ExpectCleanAsQemu(absl::StrCat("cluster_size=", cluster, ",refcount_bits=", bits), "8M",
                        {"write 0 3M", "write -z 1M 128k"});
    }
  }
}

TEST(CheckTest, Features) {
  for (const char* options : {"compat=0.10", "compat=1.1", "lazy_refcounts=on", "extended_l2=on",
                              "preallocation=metadata", "preallocation=full",
                              "compat=0.10,cluster_size=512,preallocation=metadata"}) {
    ExpectCleanAsQemu(options, "16M", {"write 64k 200k", "discard 128k 64k", "write 9M 1M"});
  }
}

TEST(CheckTest, FreshAndEmpty) {
  ExpectCleanAsQemu("", "0", {});
  ExpectCleanAsQemu("", "512", {});
  ExpectCleanAsQemu("", "64M", {});
  ExpectCleanAsQemu("cluster_size=512", "1G", {});
  ExpectCleanAsQemu("cluster_size=2M", "1P", {"write 1000T 1M"});
}

TEST(CheckTest, CompressedClusters) {
  for (const char* options : {"cluster_size=512", "", "cluster_size=2M", "compression_type=zstd"}) {
    ExpectCleanAsQemu(options, "32M",
                      {"write -c -P 1 0 2M", "write -c -P 2 8M 2M", "write 9M 64k"});
  }
}

TEST(CheckTest, Snapshots) {
  for (const char* options :
       {"", "compat=0.10", "cluster_size=512", "extended_l2=on", "refcount_bits=4"}) {
    ExpectCleanAsQemu(options, "32M",
                      {"write 0 1M", "$ qemu-img snapshot -c one FILE", "write 512k 1M",
                       "write -c 4M 128k", "$ qemu-img snapshot -c two FILE", "write -z 0 128k"});
  }
}

TEST(CheckTest, ManySnapshotsOfOneCluster) {
  // A snapshot table of several clusters.
  std::vector<std::string> commands = {"write 0 8k"};
  for (int i = 0; i < 24; ++i) {
    commands.push_back(absl::StrCat("$ qemu-img snapshot -c s", i, " FILE"));
  }
  ExpectCleanAsQemu("cluster_size=512", "1M", commands);
}

TEST(CheckTest, BackingFileDataFileAndBitmaps) {
  const ImageFile backing("", "32M", {"write 0 1M"});
  ExpectCleanAsQemu(absl::StrCat("backing_fmt=qcow2,backing_file=", backing.path()), "32M",
                    {"write 100k 1k", "write -z 512k 64k"});
  ExpectCleanAsQemu(absl::StrCat("data_file=", backing.path(), ".raw"), "32M",
                    {"write 0 1M", "write 8M 1M", "write -z 0 64k"});
  ExpectCleanAsQemu("", "1G",
                    {"write 0 1M", "$ qemu-img bitmap --add FILE one",
                     "$ qemu-img bitmap --add -g 512 FILE two", "write 512M 1M"});
}

TEST(CheckTest, EncryptedImage) {
  const ImageFile file("", "1M", {});
  Shell(absl::StrCat("qemu-img create -q -f qcow2 --object secret,id=s,data=abc ",
                     "-o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 '",
                     file.path(), "' 16M"));
  const CheckReport report = CheckFile(file.path());
  EXPECT_EQ(report.exit_code, 0) << report;
}

// The same through the disk that the program uses.
TEST(CheckTest, RealDisk) {
  const ImageFile file("cluster_size=512", "64M", {"write 0 8M", "write 32M 8M"});
  Loop loop;
  const auto rings = Rings::Create(loop);
  ASSERT_TRUE(rings.ok()) << rings.status();
  const auto disk = UringDisk::Open(**rings, file.path(), {.read_only = true});
  ASSERT_TRUE(disk.ok()) << disk.status();
  EXPECT_EQ(CheckDisk(loop, **disk), QemuCheck(file.path()));
}

TEST(CheckTest, WhatIsNoImage) {
  DiskImage image;
  EXPECT_EQ(CheckSimulated(image).error, "Could not open: Image is not in qcow2 format");
  image.Resize(1 << 20);
  EXPECT_EQ(CheckSimulated(image).error, "Could not open: Image is not in qcow2 format");
}

}  // namespace
}  // namespace ringcow
