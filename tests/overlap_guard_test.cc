// Damaged images that would make a write destroy metadata: QEMU and we refuse the same requests
// with the same sentence, mark the image as corrupt, write nothing else, and accept no more writes.

#include "qcow2/overlap_guard.h"

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/errno_status.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/image.h"
#include "tests/support/hosts.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

constexpr uint64_t kCluster = 65536;
constexpr uint64_t kCopied = uint64_t{1} << 63;
// Of a fresh image of QEMU with four clusters of data.
constexpr uint64_t kRefcountTable = 1 * kCluster;
constexpr uint64_t kRefcountBlock = 2 * kCluster;
constexpr uint64_t kL1 = 3 * kCluster;
constexpr uint64_t kL2 = 4 * kCluster;
constexpr uint64_t kData = 5 * kCluster;
constexpr uint64_t kEnd = 9 * kCluster;
// In the header: how many clusters the refcount table and how many snapshots there are, 32 bits
// each, and where the snapshot table is.
constexpr uint64_t kTableClustersAndSnapshots = 56;
constexpr uint64_t kSnapshotsOffset = 64;

void Put64(DiskImage& image, uint64_t at, uint64_t value) {
  const Be64 bytes(value);
  image.Write(at, std::as_bytes(std::span(&bytes, 1)));
}
void PutRefcount(DiskImage& image, uint64_t cluster, uint16_t value) {
  const Be16 bytes(value);
  image.Write(kRefcountBlock + 2 * cluster, std::as_bytes(std::span(&bytes, 1)));
}

struct Case {
  const char* name;
  void (*damage)(DiskImage& image);
  uint64_t write;  // 4 KiB at this guest offset
  // What we say where QEMU says something else.
  const char* otherwise = nullptr;
};
std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

constexpr uint64_t kUnallocated = uint64_t{1} << 20;

const Case kCases[] = {
    {"DataInL2Table", [](DiskImage& i) { Put64(i, kL2, kL2 | kCopied); }, 0},
    {"DataInL1Table", [](DiskImage& i) { Put64(i, kL2, kL1 | kCopied); }, 0},
    {"DataInRefcountBlock", [](DiskImage& i) { Put64(i, kL2, kRefcountBlock | kCopied); }, 0},
    {"DataInRefcountTable", [](DiskImage& i) { Put64(i, kL2, kRefcountTable | kCopied); }, 0},
    {"ZeroClusterInRefcountBlock",
     [](DiskImage& i) { Put64(i, kL2, kRefcountBlock | kCopied | 1); }, 0},
    {"L2TableFree", [](DiskImage& i) { PutRefcount(i, kL2 / kCluster, 0); }, kUnallocated},
    {"RefcountBlockFree", [](DiskImage& i) { PutRefcount(i, kRefcountBlock / kCluster, 0); },
     kUnallocated},
    {"RefcountTableFree", [](DiskImage& i) { PutRefcount(i, kRefcountTable / kCluster, 0); },
     kUnallocated},
    {"L1TableFree", [](DiskImage& i) { PutRefcount(i, kL1 / kCluster, 0); }, kUnallocated},
    {"HeaderFree", [](DiskImage& i) { PutRefcount(i, 0, 0); }, kUnallocated},
    {"L2TableNotAligned", [](DiskImage& i) { Put64(i, kL1, (kL2 + 512) | kCopied); }, 0},
    {"DataNotAligned", [](DiskImage& i) { Put64(i, kL2, (kData + 512) | kCopied); }, 0,
     "Data cluster offset 0x50200 unaligned (guest offset: 0)"},
    {"RefcountBlockNotAligned",
     [](DiskImage& i) { Put64(i, kRefcountTable, kRefcountBlock + 512); }, kUnallocated},
    {"SnapshotTableBehindTheEnd",
     [](DiskImage& i) {
       Put64(i, kSnapshotsOffset, kEnd);
       Put64(i, kTableClustersAndSnapshots, uint64_t{1} << 32 | 1);
     },
     kUnallocated},
    {"HeaderFreeForL2Table", [](DiskImage& i) { PutRefcount(i, 0, 0); }, 600 << 20},
    {"L2TableInRefcountBlock", [](DiskImage& i) { Put64(i, kL1, kRefcountBlock | kCopied); },
     kUnallocated, "Preventing invalid write on metadata (overlaps with refcount block)"},
};

class OverlapGuardTest : public testing::TestWithParam<Case> {
 protected:
  static DiskImage Make(const std::string& options = "compat=1.1") {
    const TempFile file(".qcow2");
    QemuImg({"create", "-q", "-f", "qcow2", "-o", options, file.path(), "1G"});
    QemuIo(file.path(), {"write -P 5 0 256k"});
    return *DiskImage::LoadFile(file.path());
  }

  absl::StatusOr<std::unique_ptr<Image>> OpenDamaged(DiskImage image, OpenOptions options = {}) {
    damaged_ = std::move(image);
    disk_.emplace(loop_, SimDisk::Options{.name = "damaged"}, damaged_);
    options.grow_ahead = false;
    return Open(*disk_, options);
  }
  absl::Status Write(Image& image, uint64_t offset) {
    const std::vector<std::byte> bytes(4096, std::byte{7});
    return loop_.Run(image.Write(GuestOffset(offset), bytes));
  }
  // Where the disk is not what it was, in what the file had.
  std::vector<uint64_t> Changes() const {
    std::vector<std::byte> before(damaged_.size());
    std::vector<std::byte> after(damaged_.size());
    damaged_.Read(0, before);
    disk_->content().Read(0, after);
    std::vector<uint64_t> changes;
    for (uint64_t i = 0; i < before.size(); ++i) {
      if (before[i] != after[i]) changes.push_back(i);
    }
    return changes;
  }

  Loop loop_;
  DiskImage damaged_;
  std::optional<SimDisk> disk_;
};

INSTANTIATE_TEST_SUITE_P(All, OverlapGuardTest, testing::ValuesIn(kCases),
                         testing::PrintToStringParamName());

// QEMU's sentence about such a write, if it has one.
std::string SentenceOfQemu(const DiskImage& image, uint64_t offset,
                           const std::string& check = "cached") {
  const TempFile file(".qcow2");
  EXPECT_TRUE(image.SaveFile(file.path()).ok());
  const ToolResult result =
      RunTool({"qemu-io", "-c",
               absl::StrCat("open -o driver=qcow2,overlap-check=", check, " ", file.path()), "-c",
               absl::StrCat("write -P 7 ", offset, " 4k")});
  const size_t begin = result.output.find("qcow2: Marking image as corrupt: ");
  if (begin == std::string::npos) return result.output;
  return result.output.substr(begin, result.output.find('\n', begin) - begin);
}

TEST_P(OverlapGuardTest, RefusesAndMarksAsQemuDoes) {
  DiskImage image = Make();
  GetParam().damage(image);
  const auto opened = OpenDamaged(image);
  ASSERT_TRUE(opened.ok()) << opened.status();
  const absl::Status refused = Write(**opened, GetParam().write);
  const std::string expected =
      GetParam().otherwise == nullptr
          ? SentenceOfQemu(image, GetParam().write)
          : absl::StrCat("qcow2: Marking image as corrupt: ", GetParam().otherwise,
                         "; further corruption events will be suppressed");
  EXPECT_EQ(refused.message(), absl::StrCat("'damaged': ", expected));

  // The corrupt bit, and nothing else.
  EXPECT_EQ(Changes(), std::vector<uint64_t>{79});
  EXPECT_EQ(ErrnoOf(Write(**opened, 3 * kCluster)), ENOMEDIUM);
  EXPECT_EQ(ErrnoOf(loop_.Run((*opened)->Flush())), ENOMEDIUM);
  std::vector<std::byte> bytes(4096);
  EXPECT_EQ(ErrnoOf(loop_.Run((*opened)->Read(GuestOffset(0), bytes))), ENOMEDIUM);
  EXPECT_EQ(Changes(), std::vector<uint64_t>{79});
  EXPECT_EQ(Open(*disk_).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Open(*disk_, ReadOnly()).ok());
}

TEST_P(OverlapGuardTest, LeavesAnImageAloneThatIsReadOnly) {
  DiskImage image = Make();
  GetParam().damage(image);
  const auto opened = OpenDamaged(image, ReadOnly());
  ASSERT_TRUE(opened.ok()) << opened.status();
  std::vector<std::byte> bytes(4096);
  (void)loop_.Run((*opened)->Read(GuestOffset(GetParam().write), bytes));
  EXPECT_FALSE(Write(**opened, GetParam().write).ok());
  EXPECT_EQ(Changes(), std::vector<uint64_t>{});
}

TEST_F(OverlapGuardTest, Version2HasNoBit) {
  DiskImage image = Make("compat=0.10");
  Put64(image, kL2, kL2 | kCopied);
  const auto opened = OpenDamaged(image);
  ASSERT_TRUE(opened.ok()) << opened.status();
  const absl::Status refused = Write(**opened, 0);
  EXPECT_TRUE(absl::StrContains(refused.message(), "overlaps with active L2 table")) << refused;
  EXPECT_FALSE(Write(**opened, 3 * kCluster).ok());
  EXPECT_EQ(Changes(), std::vector<uint64_t>{});
}

TEST_F(OverlapGuardTest, KeepsSnapshotTablesFromBeingOverwritten) {
  const TempFile file(".qcow2");
  QemuImg({"create", "-q", "-f", "qcow2", file.path(), "64M"});
  QemuIo(file.path(), {"write -P 5 0 256k"});
  QemuImg({"snapshot", "-c", "one", file.path()});
  const DiskImage original = *DiskImage::LoadFile(file.path());
  std::vector<std::byte> field(8);
  original.Read(64, field);
  const uint64_t table = LoadBe<uint64_t>(field.data());
  original.Read(table, field);
  const uint64_t l1_table = LoadBe<uint64_t>(field.data());
  for (const uint64_t place : {table, l1_table}) {
    DiskImage image = original;
    PutRefcount(image, place / kCluster, 0);
    const auto opened = OpenDamaged(image);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ(Write(**opened, kUnallocated).message(),
              absl::StrCat("'damaged': ", SentenceOfQemu(image, kUnallocated)));
  }
}

constexpr uint64_t kAutoclearFeatures = 88;
constexpr uint64_t kBitmapFlags = 12;  // in an entry of the directory

// An image with a bitmap, and where its directory is.
struct WithBitmap {
  DiskImage image;
  uint64_t directory = 0;
};

WithBitmap MakeWithBitmap(const std::string& enabled) {
  const TempFile file(".qcow2");
  QemuImg({"create", "-q", "-f", "qcow2", file.path(), "64M"});
  QemuIo(file.path(), {"write -P 5 0 256k"});
  QemuImg({"bitmap", "--add", enabled, file.path(), "bitmap"});
  WithBitmap made{.image = *DiskImage::LoadFile(file.path())};
  std::vector<std::byte> header(1024);
  made.image.Read(0, header);
  // The extension: its type and length, then the number of bitmaps, 0, the directory's size and
  // place.
  for (size_t at = 104; at + 32 <= header.size(); at += 8) {
    if (LoadBe<uint32_t>(&header[at]) == 0x23852875) {
      made.directory = LoadBe<uint64_t>(&header[at + 24]);
    }
  }
  EXPECT_NE(made.directory, 0U);
  return made;
}

TEST_F(OverlapGuardTest, KeepsTheBitmapDirectoryFromBeingOverwritten) {
  for (const char* const enabled : {"--enable", "--disable"}) {
    for (const bool inconsistent : {false, true}) {
      SCOPED_TRACE(testing::Message() << enabled << inconsistent);
      WithBitmap original = MakeWithBitmap(enabled);
      const uint64_t directory = original.directory;
      // A bitmap that nobody follows, and that is only carried along.
      if (inconsistent) {
        const Be32 in_use(1);
        original.image.Write(directory + kBitmapFlags, std::as_bytes(std::span(&in_use, 1)));
      }
      DiskImage is_free = original.image;
      PutRefcount(is_free, directory / kCluster, 0);
      DiskImage is_data = original.image;
      Put64(is_data, kL2, directory | kCopied);
      for (const auto& [image, place] :
           {std::pair(is_free, kUnallocated), std::pair(is_data, 0UL)}) {
        for (const OverlapCheck check : {OverlapCheck::kCached, OverlapCheck::kConstant}) {
          OpenOptions options;
          options.overlap_check = check;
          const auto opened = OpenDamaged(image, options);
          ASSERT_TRUE(opened.ok()) << opened.status();
          std::vector<uint64_t> changes = Changes();
          const absl::Status refused = Write(**opened, place);
          EXPECT_TRUE(absl::StrContains(refused.message(), "bitmap directory")) << refused;
          EXPECT_EQ(refused.message(), absl::StrCat("'damaged': ", SentenceOfQemu(image, place)));
          changes.insert(changes.begin(), 79);
          EXPECT_EQ(Changes(), changes);
        }
      }
    }
  }
}

// Bitmaps that the autoclear bit does not vouch for are nobody's.
TEST_F(OverlapGuardTest, ControlBitmapsThatDoNotCount) {
  WithBitmap original = MakeWithBitmap("--enable");
  PutRefcount(original.image, original.directory / kCluster, 0);
  Put64(original.image, kAutoclearFeatures, 0);
  const auto opened = OpenDamaged(original.image);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(Write(**opened, kUnallocated), absl::OkStatus());
  EXPECT_FALSE(absl::StrContains(SentenceOfQemu(original.image, kUnallocated), "corrupt"));
}

// It is changed in place when the image is opened.
TEST_F(OverlapGuardTest, DoesNotChangeABitmapDirectoryThatIsAnL2Table) {
  WithBitmap damaged = MakeWithBitmap("--enable");
  Put64(damaged.image, kL1, damaged.directory | kCopied);
  const auto opened = OpenDamaged(damaged.image);
  EXPECT_EQ(opened.status().message(),
            absl::StrCat("'damaged': ", SentenceOfQemu(damaged.image, 0)));
  EXPECT_EQ(Changes(), std::vector<uint64_t>{79});
}

// A snapshot's L2 table, which its own L1 table alone names.
TEST_F(OverlapGuardTest, KeepsOutOfL2TablesOfSnapshotsOnRequest) {
  const TempFile file(".qcow2");
  QemuImg({"create", "-q", "-f", "qcow2", file.path(), "64M"});
  QemuIo(file.path(), {"write -P 5 0 256k"});
  QemuImg({"snapshot", "-c", "s", file.path()});
  QemuIo(file.path(), {"write -P 6 0 64k"});
  DiskImage image = *DiskImage::LoadFile(file.path());
  Be64 l1_entry(0);
  image.Read(kL1, std::as_writable_bytes(std::span(&l1_entry, 1)));
  const uint64_t active_l2 = l1_entry.value() & ~kCopied;
  ASSERT_NE(active_l2, kL2);
  DiskImage is_data = image;
  Put64(is_data, active_l2, kL2 | kCopied);
  DiskImage is_free = image;
  PutRefcount(is_free, kL2 / kCluster, 0);
  for (const auto& [damaged, place] : {std::pair(is_data, 0UL), std::pair(is_free, kUnallocated)}) {
    OpenOptions options;
    options.overlap_check = OverlapCheck::kAll;
    auto opened = OpenDamaged(damaged, options);
    ASSERT_TRUE(opened.ok()) << opened.status();
    const absl::Status refused = Write(**opened, place);
    EXPECT_TRUE(absl::StrContains(refused.message(), "inactive L2 table")) << refused;
    EXPECT_EQ(refused.message(),
              absl::StrCat("'damaged': ", SentenceOfQemu(damaged, place, "all")));
    opened->reset();
    opened = OpenDamaged(damaged);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ(Write(**opened, place), absl::OkStatus()) << "cached does not know";
  }
}

// Nobody knows then where the L2 tables of the snapshot are: no write is let through.
TEST_F(OverlapGuardTest, WritesNothingBesideASnapshotThatCannotBe) {
  const TempFile file(".qcow2");
  QemuImg({"create", "-q", "-f", "qcow2", file.path(), "64M"});
  QemuIo(file.path(), {"write -P 5 0 256k"});
  QemuImg({"snapshot", "-c", "s", file.path()});
  DiskImage image = *DiskImage::LoadFile(file.path());
  Be64 table(0);
  image.Read(kSnapshotsOffset, std::as_writable_bytes(std::span(&table, 1)));
  Put64(image, table.value(), 0x400200);
  OpenOptions options;
  options.overlap_check = OverlapCheck::kAll;
  auto opened = OpenDamaged(image, options);
  ASSERT_TRUE(opened.ok()) << opened.status();
  for (const uint64_t offset : {0UL, kUnallocated}) {
    const absl::Status refused = Write(**opened, offset);
    EXPECT_EQ(ErrnoOf(refused), EINVAL) << refused;
    EXPECT_TRUE(IsUnguarded(refused)) << refused;
  }
  EXPECT_EQ(loop_.Run((*opened)->Close()), absl::OkStatus());
  EXPECT_EQ(Changes(), std::vector<uint64_t>());
}

TEST_F(OverlapGuardTest, LooksAtSingleStructures) {
  DiskImage image = Make();
  Put64(image, kL2, kL2 | kCopied);
  OpenOptions options;
  options.overlap_check = OverlapCheck::kAll.With(OverlapCheck::kActiveL2, false);
  auto opened = OpenDamaged(image, options);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(Write(**opened, 0), absl::OkStatus());
  options.overlap_check = OverlapCheck::kNone.With(OverlapCheck::kActiveL2, true);
  opened->reset();
  opened = OpenDamaged(image, options);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE(absl::StrContains(Write(**opened, 0).message(), "active L2 table"));
}

// Without it the same write goes through.
TEST_F(OverlapGuardTest, ControlWithoutIt) {
  DiskImage image = Make();
  Put64(image, kL2, kL2 | kCopied);
  OpenOptions options;
  options.overlap_check = OverlapCheck::kNone;
  auto opened = OpenDamaged(image, options);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(Write(**opened, 0), absl::OkStatus());
  EXPECT_GT(Changes().size(), 8U);

  options.overlap_check = OverlapCheck::kConstant;
  opened->reset();
  opened = OpenDamaged(image, options);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(Write(**opened, 0), absl::OkStatus());
}

}  // namespace
}  // namespace ringcow
