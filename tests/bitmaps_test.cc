// Persistent dirty bitmaps of images that are open: they follow what the guest changes, survive
// reopens, resizes and QEMU, and those that were not stored are told from those that were.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/image.h"
#include "qcow2/raw_image.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

constexpr uint64_t kBytes = 1 << 20;

// What is set in bitmap `name`, bit by bit; fails the test when it cannot be read.
std::vector<bool> BitsOf(Loop& loop, Image& image, const std::string& name) {
  const absl::StatusOr<DirtyBitmap> bitmap = loop.Run(image.ReadBitmap(name));
  EXPECT_TRUE(bitmap.ok()) << bitmap.status();
  if (!bitmap.ok()) return {};
  std::vector<bool> bits(bitmap->bits());
  for (uint64_t i = 0; i < bits.size(); ++i) {
    bits[i] = bitmap->Get(GuestOffset(i << bitmap->granularity_bits()));
  }
  return bits;
}

class BitmapsTest : public testing::Test {
 protected:
  void Make(const CreateOptions& options = {.virtual_size = kBytes, .cluster_size = 512}) {
    ASSERT_EQ(Create(disk_, options), absl::OkStatus());
    Reopen();
  }
  // Closes the image, if it is open, and opens it again.
  void Reopen() {
    Close();
    absl::StatusOr<std::unique_ptr<Image>> image = Open(disk_);
    ASSERT_TRUE(image.ok()) << image.status();
    image_ = *std::move(image);
  }
  void Close() {
    if (image_ != nullptr) EXPECT_EQ(loop_.Run(image_->Close()), absl::OkStatus());
    image_.reset();
    EXPECT_EQ(Findings(disk_), "");
  }
  // As after a crash in which everything written survived.
  void Forget() { image_.reset(); }

  absl::Status Add(const std::string& name, uint64_t granularity = 512, bool enabled = true) {
    return loop_.Run(image_->AddBitmap(name, granularity, enabled));
  }
  void Write(uint64_t offset, uint64_t length) {
    const std::vector<std::byte> bytes(length, std::byte{7});
    EXPECT_EQ(loop_.Run(image_->Write(GuestOffset(offset), bytes)), absl::OkStatus());
  }
  std::vector<BitmapDirectoryEntry> List() {
    const auto list = loop_.Run(image_->ListBitmaps());
    EXPECT_TRUE(list.ok()) << list.status();
    return list.value_or(std::vector<BitmapDirectoryEntry>());
  }
  std::vector<bool> Bits(const std::string& name) { return BitsOf(loop_, *image_, name); }
  // As many bits as the disk has units, those from `begin` to `end` set.
  static std::vector<bool> Set(uint64_t begin, uint64_t end, uint64_t bits = kBytes / 512) {
    std::vector<bool> set(bits);
    for (uint64_t i = begin; i < end; ++i) set[i] = true;
    return set;
  }

  Loop loop_;
  SimDisk disk_{loop_, {.record = false}};
  std::unique_ptr<Image> image_;
};

TEST_F(BitmapsTest, FollowEveryChange) {
  Make();
  ASSERT_EQ(Add("on"), absl::OkStatus());
  ASSERT_EQ(Add("coarse", 65536), absl::OkStatus());
  ASSERT_EQ(Add("off", 512, /*enabled=*/false), absl::OkStatus());
  Write(1024, 513);
  EXPECT_EQ(Bits("on"), Set(2, 4));
  EXPECT_EQ(Bits("coarse"), Set(0, 1, 16));
  EXPECT_EQ(Bits("off"), Set(0, 0));
  Reopen();
  EXPECT_EQ(Bits("on"), Set(2, 4)) << "stored, and loaded again";
  EXPECT_EQ(loop_.Run(image_->WriteZeroes(GuestOffset(2048), 512, ZeroManner::kMayUnmap)),
            absl::OkStatus());
  EXPECT_EQ(loop_.Run(image_->Discard(GuestOffset(2560), 512)), absl::OkStatus());
  Reopen();
  EXPECT_EQ(Bits("on"), Set(2, 6));
  EXPECT_EQ(Bits("off"), Set(0, 0));
  const auto list = List();
  ASSERT_EQ(list.size(), 3U);
  EXPECT_TRUE(list[0].automatic && !list[0].in_use);
  EXPECT_EQ(list[1].granularity_bits, 16);
  EXPECT_FALSE(list[2].automatic);
}

TEST_F(BitmapsTest, AreClearedMergedSwitchedAndRemoved) {
  Make();
  ASSERT_EQ(Add("a"), absl::OkStatus());
  ASSERT_EQ(Add("b"), absl::OkStatus());
  EXPECT_TRUE(absl::IsAlreadyExists(Add("a")));
  Write(0, 512);
  Reopen();
  ASSERT_EQ(loop_.Run(image_->SetBitmapEnabled("b", false)), absl::OkStatus());
  Write(512, 512);
  ASSERT_EQ(loop_.Run(image_->ClearBitmap("a")), absl::OkStatus());
  Write(5120, 512);
  Reopen();
  EXPECT_EQ(Bits("a"), Set(10, 11));
  EXPECT_EQ(Bits("b"), Set(0, 1));
  const absl::StatusOr<DirtyBitmap> a = loop_.Run(image_->ReadBitmap("a"));
  ASSERT_TRUE(a.ok());
  ASSERT_EQ(loop_.Run(image_->MergeBitmap("b", *a)), absl::OkStatus());
  ASSERT_EQ(loop_.Run(image_->RemoveBitmap("a")), absl::OkStatus());
  EXPECT_TRUE(absl::IsNotFound(loop_.Run(image_->RemoveBitmap("a"))));
  Reopen();
  std::vector<bool> merged = Set(10, 11);
  merged[0] = true;
  EXPECT_EQ(Bits("b"), merged);
  EXPECT_EQ(List().size(), 1U);
  ASSERT_EQ(loop_.Run(image_->RemoveBitmap("b")), absl::OkStatus());
  Reopen();
  EXPECT_TRUE(List().empty());
  EXPECT_FALSE(image_->header().bitmaps_valid());
  EXPECT_FALSE(image_->header().extensions.bitmaps.has_value());
}

TEST_F(BitmapsTest, ThatWereNotStoredAreInconsistent) {
  Make();
  ASSERT_EQ(Add("on"), absl::OkStatus());
  ASSERT_EQ(Add("off", 512, /*enabled=*/false), absl::OkStatus());
  ASSERT_EQ(Add("changed", 512, /*enabled=*/false), absl::OkStatus());
  Reopen();
  ASSERT_EQ(loop_.Run(image_->ClearBitmap("changed")), absl::OkStatus());
  Forget();
  Reopen();
  const auto list = List();
  ASSERT_EQ(list.size(), 3U);
  EXPECT_TRUE(list[0].in_use) << "it should have followed writes";
  EXPECT_FALSE(list[1].in_use) << "nothing of it could have changed";
  EXPECT_TRUE(list[2].in_use);
  const auto unusable = [](const absl::Status& status) {
    return absl::IsFailedPrecondition(status) &&
           std::string(status.message()).find("is inconsistent") != std::string::npos;
  };
  EXPECT_TRUE(unusable(loop_.Run(image_->ReadBitmap("on")).status()));
  EXPECT_TRUE(unusable(loop_.Run(image_->ClearBitmap("on"))));
  EXPECT_TRUE(unusable(loop_.Run(image_->SetBitmapEnabled("on", false))));
  EXPECT_TRUE(unusable(loop_.Run(image_->Resize(2 * kBytes, Preallocation::kOff))));
  Reopen();
  EXPECT_EQ(List().size(), 3U) << "they are kept";
  ASSERT_EQ(loop_.Run(image_->RemoveBitmap("on")), absl::OkStatus());
  ASSERT_EQ(loop_.Run(image_->RemoveBitmap("changed")), absl::OkStatus());
  EXPECT_EQ(loop_.Run(image_->Resize(2 * kBytes, Preallocation::kOff)), absl::OkStatus());
  Reopen();
  EXPECT_EQ(Bits("off"), Set(0, 0, 2 * kBytes / 512));
}

TEST_F(BitmapsTest, HaveTheSizeOfTheDisk) {
  Make();
  ASSERT_EQ(Add("b"), absl::OkStatus());
  Write(0, 1024);
  Write(kBytes - 512, 512);
  ASSERT_EQ(loop_.Run(image_->Resize(kBytes / 2, Preallocation::kOff)), absl::OkStatus());
  Reopen();
  EXPECT_EQ(Bits("b"), Set(0, 2, kBytes / 1024));
  ASSERT_EQ(loop_.Run(image_->Resize(3 * kBytes, Preallocation::kOff)), absl::OkStatus());
  Reopen();
  EXPECT_EQ(Bits("b"), Set(0, 2, 3 * kBytes / 512));
  Write(3 * kBytes - 512, 512);
  Reopen();
  EXPECT_TRUE(Bits("b").back());
}

TEST_F(BitmapsTest, KeepSnapshotsFromBeingApplied) {
  Make();
  ASSERT_EQ(loop_.Run(image_->CreateSnapshot(Snapshot())), absl::OkStatus());
  ASSERT_EQ(Add("b"), absl::OkStatus());
  EXPECT_TRUE(absl::IsFailedPrecondition(loop_.Run(image_->ApplySnapshot(0))));
  EXPECT_EQ(loop_.Run(image_->DeleteSnapshot(0)), absl::OkStatus());
  Close();
}

TEST_F(BitmapsTest, AreLeftAloneByReaders) {
  Make();
  ASSERT_EQ(Add("b"), absl::OkStatus());
  Write(0, 512);
  Close();
  const DiskImage before = disk_.content();
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk_, ReadOnly());
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(BitsOf(loop_, **image, "b"), Set(0, 1));
  EXPECT_EQ(loop_.Run((*image)->Close()), absl::OkStatus());
  EXPECT_TRUE(disk_.content() == before);
}

TEST_F(BitmapsTest, WithoutABitmapNothingIsWritten) {
  Make();
  Close();
  const DiskImage before = disk_.content();
  Reopen();
  Close();
  EXPECT_TRUE(disk_.content() == before);
}

TEST_F(BitmapsTest, OfVersion2CannotBe) {
  Make({.virtual_size = kBytes, .version = 2});
  EXPECT_TRUE(absl::IsFailedPrecondition(Add("b")));
}

// Each takes an entry of the table and no cluster: many fit in, and come out again.
TEST_F(BitmapsTest, AreMany) {
  Make();
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(Add(absl::StrCat("bitmap ", i), 512 << i % 10), absl::OkStatus());
  }
  Write(512, 512);
  Reopen();
  EXPECT_EQ(List().size(), 200U);
  EXPECT_EQ(Bits("bitmap 0"), Set(1, 2));
  Write(1024, 512);
  Reopen();
  EXPECT_EQ(Bits("bitmap 190"), Set(1, 3));
}

// QEMU and we in turn, on one image.
class BitmapsAndQemuTest : public testing::TestWithParam<const char*> {
 protected:
  void With(const std::function<void(Loop&, Image&)>& work) {
    FileHost host(file_.path());
    OpenOptions options;
    absl::StatusOr<std::unique_ptr<Image>> image = Open(host.disk(), options);
    ASSERT_TRUE(image.ok()) << image.status();
    work(host.loop(), **image);
    ASSERT_EQ(host.loop().Run((*image)->Close()), absl::OkStatus());
  }

  const TempFile file_{".qcow2"};
};

INSTANTIATE_TEST_SUITE_P(Options, BitmapsAndQemuTest,
                         testing::Values("cluster_size=64k", "cluster_size=512",
                                         "cluster_size=4k,refcount_bits=64",
                                         "extended_l2=on,cluster_size=16k", "cluster_size=2M"));

TEST_P(BitmapsAndQemuTest, KeepThemForEachOther) {
  QemuImg({"create", "-q", "-f", "qcow2", "-o", GetParam(), file_.path(), "8M"});
  QemuImg({"bitmap", "--add", "-g", "64k", file_.path(), "theirs"});
  QemuIo(file_.path(), {"write -P 1 0 64k"});
  std::vector<bool> expected(128);
  expected[0] = true;
  With([&](Loop& loop, Image& image) {
    EXPECT_EQ(BitsOf(loop, image, "theirs"), expected);
    const std::vector<std::byte> bytes(100, std::byte{2});
    EXPECT_EQ(loop.Run(image.Write(GuestOffset(5 << 16), bytes)), absl::OkStatus());
    expected[5] = true;
    EXPECT_EQ(loop.Run(image.AddBitmap("ours", 65536, true)), absl::OkStatus());
    EXPECT_EQ(loop.Run(image.Write(GuestOffset(7 << 16), bytes)), absl::OkStatus());
    expected[7] = true;
  });
  EXPECT_EQ(QemuCheck(file_.path()).status, 0) << QemuCheck(file_.path()).output;
  QemuIo(file_.path(), {"write -P 3 512k 64k"});
  expected[8] = true;
  // QEMU takes ours for what it is: it merges it into another one.
  QemuImg({"bitmap", "--add", "--disable", "-g", "64k", "--merge", "ours", file_.path(), "both"});
  EXPECT_EQ(QemuCheck(file_.path()).status, 0) << QemuCheck(file_.path()).output;
  With([&](Loop& loop, Image& image) {
    EXPECT_EQ(BitsOf(loop, image, "theirs"), expected);
    expected[0] = expected[5] = false;
    EXPECT_EQ(BitsOf(loop, image, "both"), expected);
    EXPECT_EQ(loop.Run(image.RemoveBitmap("ours")), absl::OkStatus());
    EXPECT_EQ(loop.Run(image.RemoveBitmap("theirs")), absl::OkStatus());
    EXPECT_EQ(loop.Run(image.RemoveBitmap("both")), absl::OkStatus());
  });
  const ToolResult info = RunTool({"qemu-img", "info", file_.path()});
  EXPECT_EQ(info.output.find("bitmap"), std::string::npos) << info.output;
  EXPECT_EQ(QemuCheck(file_.path()).status, 0);
}

// All bits are set, and QEMU finds nothing set behind them when it makes the disk larger.
TEST_P(BitmapsAndQemuTest, EndWithTheDisk) {
  QemuImg({"create", "-q", "-f", "qcow2", "-o", GetParam(), file_.path(), "1M"});
  With([](Loop& loop, Image& image) {
    EXPECT_EQ(loop.Run(image.AddBitmap("b", 65536, true)), absl::OkStatus());
    EXPECT_EQ(loop.Run(image.WriteZeroes(GuestOffset(0), 1 << 20, ZeroManner::kKeepSpace)),
              absl::OkStatus());
  });
  QemuImg({"resize", "-q", "-f", "qcow2", file_.path(), "2M"});
  With([](Loop& loop, Image& image) {
    std::vector<bool> expected(32);
    std::fill_n(expected.begin(), 16, true);
    EXPECT_EQ(BitsOf(loop, image, "b"), expected);
  });
}

// The name of the backing file is in the way of a new header extension.
TEST(BitmapsInOverlayTest, LeaveTheBackingFileItsName) {
  const TempFile base("base.qcow2");
  const TempFile overlay("overlay.qcow2");
  QemuImg({"create", "-q", "-f", "raw", base.path(), "1M"});
  QemuImg({"create", "-q", "-f", "qcow2", "-b", base.path(), "-F", "raw", overlay.path()});
  for (int round = 0; round < 2; ++round) {
    QemuImg({"compare", "-q", base.path(), overlay.path()});
    const std::string info = RunTool({"qemu-img", "info", overlay.path()}).output;
    EXPECT_NE(info.find(absl::StrCat("backing file: ", base.path(), "\n")), std::string::npos)
        << info;
    EXPECT_EQ(info.find("name: b") != std::string::npos, round == 1) << info;
    EXPECT_EQ(QemuCheck(overlay.path()).status, 0);
    FileHost host(overlay.path());
    SimDisk empty(host.loop(), {.record = false});  // nothing of it is read
    RawImage raw(empty, /*read_only=*/true);
    OpenOptions options;
    options.backing = &raw;
    absl::StatusOr<std::unique_ptr<Image>> image = Open(host.disk(), options);
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_EQ((*image)->header().backing_file, base.path());
    if (round == 0) {
      EXPECT_EQ(host.loop().Run((*image)->AddBitmap("b", 65536, true)), absl::OkStatus());
    }
    EXPECT_EQ(host.loop().Run((*image)->Close()), absl::OkStatus());
  }
}

}  // namespace
}  // namespace ringcow
