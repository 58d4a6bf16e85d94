// What CheckImage says about damaged images is what qemu-img check says: the same lines, counts and
// exit code. Fails when qemu-img or qemu-io is missing.

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "qcow2/check_oracle.h"

namespace ringcow {
namespace {

constexpr uint64_t kCluster = 65536;
constexpr uint64_t kCopied = uint64_t{1} << 63;
constexpr uint64_t kCompressed = uint64_t{1} << 62;

constexpr uint64_t kEighthEntry = 128;  // of an L2 table with subclusters

struct Damage {
  std::string name;
  std::function<void(ImageFile&)> apply;
};

void OrWith64(ImageFile& file, uint64_t offset, uint64_t bits) {
  file.Put64(offset, file.Get64(offset) | bits);
}

// Prints both reports when they differ.
void ExpectSameAsQemu(const std::vector<Damage>& damages, const std::string& options,
                      const std::vector<std::string>& commands) {
  for (const Damage& damage : damages) {
    SCOPED_TRACE(damage.name);
    ImageFile file(options, "64M", commands);
    ASSERT_EQ(CheckFile(file.path()).exit_code, 0);
    damage.apply(file);
    const CheckReport report = CheckFile(file.path());
    EXPECT_EQ(report, QemuCheck(file.path()));
  }
}

TEST(CheckBrokenTest, L1AndL2Tables) {
  ExpectSameAsQemu(
      {
          {"nothing", [](ImageFile&) {}},
          {"L1 entry with reserved bits", [](ImageFile& f) { OrWith64(f, f.l1(), 4); }},
          {"L1 entry beyond the file", [](ImageFile& f) { f.Put64(f.l1(), kCopied | 1ULL << 40); }},
          {"L1 entry at the highest offset",
           [](ImageFile& f) { f.Put64(f.l1(), kCopied | 0x00ffffffffff0000); }},
          {"L1 entry without COPIED", [](ImageFile& f) { f.Put64(f.l1(), f.l2()); }},
          {"L1 entry that points to the L1 table",
           [](ImageFile& f) { f.Put64(f.l1(), f.l1() | kCopied); }},
          {"L1 entry that points to the header", [](ImageFile& f) { f.Put64(f.l1(), kCopied); }},
          {"L1 entry that points to the refcount table",
           [](ImageFile& f) { f.Put64(f.l1(), f.refcount_table()); }},
          {"L1 entry that points to the refcount block",
           [](ImageFile& f) { f.Put64(f.l1(), f.refcount_block()); }},
          {"L1 entry cleared", [](ImageFile& f) { f.Put64(f.l1(), 0); }},
          {"L2 entry not aligned", [](ImageFile& f) { OrWith64(f, f.l2(), 512); }},
          {"L2 entry not aligned, with the zero flag",
           [](ImageFile& f) { OrWith64(f, f.l2(), 512 | 1); }},
          {"L2 entry with reserved bits", [](ImageFile& f) { OrWith64(f, f.l2(), 8); }},
          {"L2 entry beyond the file", [](ImageFile& f) { f.Put64(f.l2(), kCopied | 1ULL << 50); }},
          {"L2 entry cleared", [](ImageFile& f) { f.Put64(f.l2(), 0); }},
          {"L2 entry with no offset", [](ImageFile& f) { f.Put64(f.l2(), kCopied); }},
          {"L2 entries that share a cluster",
           [](ImageFile& f) { f.Put64(f.l2(), f.Get64(f.l2() + 8)); }},
          {"L2 entry without COPIED",
           [](ImageFile& f) { f.Put64(f.l2(), f.Get64(f.l2()) & ~kCopied); }},
          {"L2 entry that points to its own table",
           [](ImageFile& f) { f.Put64(f.l2(), f.l2() | kCopied); }},
          {"L2 entries in the wrong order",
           [](ImageFile& f) {
             const uint64_t first = f.Get64(f.l2());
             f.Put64(f.l2(), f.Get64(f.l2() + 8));
             f.Put64(f.l2() + 8, first);
           }},
          {"compressed with COPIED",
           [](ImageFile& f) { f.Put64(f.l2(), kCompressed | kCopied | f.l2()); }},
          {"compressed beyond the file",
           [](ImageFile& f) { f.Put64(f.l2(), kCompressed | 0x003fffffffffffff); }},
          {"compressed over all",
           [](ImageFile& f) { f.Put64(f.l2(), kCompressed | 0x3fc0000000000000); }},
          {"file cut in an L2 table", [](ImageFile& f) { f.Truncate(4 * kCluster + 1000); }},
          {"file cut in a data cluster", [](ImageFile& f) { f.Truncate(5 * kCluster + 1000); }},
          {"file much longer", [](ImageFile& f) { f.Truncate(uint64_t{1} << 43); }},
      },
      "", {"write 0 256k"});
}

TEST(CheckBrokenTest, RefcountStructures) {
  ExpectSameAsQemu(
      {
          {"block not aligned", [](ImageFile& f) { OrWith64(f, f.refcount_table(), 512); }},
          {"entry with reserved bits", [](ImageFile& f) { OrWith64(f, f.refcount_table(), 8); }},
          {"no block", [](ImageFile& f) { f.Put64(f.refcount_table(), 0); }},
          {"block beyond the file", [](ImageFile& f) { f.Put64(f.refcount_table(), 1ULL << 40); }},
          {"block at a negative offset",
           [](ImageFile& f) { f.Put64(f.refcount_table(), 0xffffffffffff0000); }},
          {"block at the highest offset",
           [](ImageFile& f) { f.Put64(f.refcount_table(), 0x7fffffffffff0000); }},
          {"two entries with one block",
           [](ImageFile& f) { f.Put64(f.refcount_table() + 8, f.refcount_block()); }},
          {"block in the refcount table",
           [](ImageFile& f) { f.Put64(f.refcount_table(), f.refcount_table()); }},
          {"block in the L1 table", [](ImageFile& f) { f.Put64(f.refcount_table() + 8, f.l1()); }},
          {"every entry has the one block",
           [](ImageFile& f) {
             for (uint64_t i = 1; i < kCluster / 8; ++i) {
               f.Put64(f.refcount_table() + 8 * i, f.refcount_block());
             }
           }},
          {"no table", [](ImageFile& f) { f.Put32(56, 0); }},
          {"table beyond the file", [](ImageFile& f) { f.Put64(48, uint64_t{1} << 45); }},
          {"table not aligned", [](ImageFile& f) { f.Put64(48, 512); }},
          {"table too large", [](ImageFile& f) { f.Put32(56, 500); }},
          {"table as large as may be", [](ImageFile& f) { f.Put32(56, 128); }},
          {"refcount of the header", [](ImageFile& f) { f.Put16(f.refcount_block(), 0); }},
          {"refcount of an L2 table", [](ImageFile& f) { f.Put16(f.refcount_block() + 8, 2); }},
          {"refcount of a data cluster", [](ImageFile& f) { f.Put16(f.refcount_block() + 10, 9); }},
          {"refcount 0 of a data cluster",
           [](ImageFile& f) { f.Put16(f.refcount_block() + 10, 0); }},
          {"refcount behind the end", [](ImageFile& f) { f.Put16(f.refcount_block() + 2000, 7); }},
          {"highest refcount", [](ImageFile& f) { f.Put16(f.refcount_block() + 10, 0xffff); }},
      },
      "", {"write 0 256k"});
}

TEST(CheckBrokenTest, RefcountWidths) {
  for (const int bits : {1, 2, 4, 8, 16, 32, 64}) {
    SCOPED_TRACE(bits);
    ExpectSameAsQemu(
        {{"two references", [](ImageFile& f) { f.Put64(f.l2(), f.Get64(f.l2() + 8)); }},
         {"refcounts overwritten", [](ImageFile& f) { f.Put32(f.refcount_block(), 0x8765a321); }},
         {"no refcounts", [](ImageFile& f) { f.Put64(f.refcount_table(), 0); }}},
        absl::StrCat("refcount_bits=", bits), {"write 0 256k"});
  }
}

TEST(CheckBrokenTest, Snapshots) {
  const auto extra_data_size = [](ImageFile& f, uint32_t bytes) {
    f.Put32(f.snapshots() + 36, bytes);
  };
  ExpectSameAsQemu(
      {
          {"L1 table not aligned", [](ImageFile& f) { OrWith64(f, f.snapshots(), 512); }},
          {"L1 table too large", [](ImageFile& f) { f.Put32(f.snapshots() + 8, 0x7fffffff); }},
          {"L1 table beyond the file", [](ImageFile& f) { f.Put64(f.snapshots(), 1ULL << 50); }},
          {"L1 table at a negative offset",
           [](ImageFile& f) { f.Put64(f.snapshots(), 1ULL << 63 | f.l1()); }},
          {"L1 table shared with the active one",
           [](ImageFile& f) { f.Put64(f.snapshots(), f.l1()); }},
          {"extra data too large", [&](ImageFile& f) { extra_data_size(f, 1025); }},
          {"extra data too small", [&](ImageFile& f) { extra_data_size(f, 8); }},
          {"too many snapshots", [](ImageFile& f) { f.Put32(60, 100000); }},
          {"one snapshot more", [](ImageFile& f) { f.Put32(60, 3); }},
          {"one snapshot less", [](ImageFile& f) { f.Put32(60, 1); }},
          {"no snapshots", [](ImageFile& f) { f.Put32(60, 0); }},
          {"65536 snapshots", [](ImageFile& f) { f.Put32(60, 65536); }},
          {"table not aligned", [](ImageFile& f) { OrWith64(f, 64, 512); }},
          {"table beyond the file", [](ImageFile& f) { f.Put64(64, uint64_t{1} << 50); }},
          {"reserved bits in an L2 table that all share",
           [](ImageFile& f) { OrWith64(f, f.l2(), 8); }},
          {"COPIED in an L2 table that all share",
           [](ImageFile& f) { OrWith64(f, f.l2(), kCopied); }},
          {"refcount of a shared cluster",
           [](ImageFile& f) { f.Put16(f.refcount_block() + 10, 1); }},
      },
      "", {"write 0 256k", "$ qemu-img snapshot -c one FILE", "$ qemu-img snapshot -c two FILE"});
}

TEST(CheckBrokenTest, ExtendedL2) {
  ExpectSameAsQemu(
      {
          {"allocated and zero", [](ImageFile& f) { f.Put64(f.l2() + 8, ~uint64_t{0}); }},
          {"allocated without a cluster",
           [](ImageFile& f) { f.Put64(f.l2() + kEighthEntry + 8, 5); }},
          {"zero without a cluster",
           [](ImageFile& f) { f.Put64(f.l2() + kEighthEntry + 8, 5ULL << 32); }},
          {"not aligned", [](ImageFile& f) { OrWith64(f, f.l2(), 512); }},
          {"not aligned, without data",
           [](ImageFile& f) {
             OrWith64(f, f.l2(), 512);
             f.Put64(f.l2() + 8, 0);
           }},
          {"zero flag", [](ImageFile& f) { OrWith64(f, f.l2(), 1); }},
          {"zero flag alone", [](ImageFile& f) { f.Put64(f.l2() + kEighthEntry, 1); }},
          {"compressed with a bitmap", [](ImageFile& f) { f.Put64(f.l2(), kCompressed | f.l2()); }},
          {"without COPIED", [](ImageFile& f) { f.Put64(f.l2(), f.Get64(f.l2()) & ~kCopied); }},
      },
      "extended_l2=on", {"write 0 256k"});
}

TEST(CheckBrokenTest, ExternalDataFile) {
  ExpectSameAsQemu(
      {
          {"without COPIED", [](ImageFile& f) { f.Put64(f.l2(), 0x10000); }},
          {"not aligned", [](ImageFile& f) { OrWith64(f, f.l2(), 512); }},
          {"compressed", [](ImageFile& f) { f.Put64(f.l2(), kCompressed | 0x50000); }},
          {"beyond that file", [](ImageFile& f) { f.Put64(f.l2(), kCopied | 1ULL << 50); }},
          {"snapshots",
           [](ImageFile& f) {
             f.Put64(64, f.l1());
             f.Put32(60, 1);
           }},
      },
      absl::StrCat("data_file=", std::getenv("TEST_TMPDIR"), "/data.raw"), {"write 0 256k"});
}

TEST(CheckBrokenTest, Bitmaps) {
  // The directory's offset is the last field of the extension, which is the last one.
  const auto directory = [](const ImageFile& f) {
    uint64_t at = f.Get32(100);
    while (f.Get32(at) != 0x23852875) at += 8 + (f.Get32(at + 4) + 7) / 8 * 8;
    return f.Get64(at + 8 + 16);
  };
  ExpectSameAsQemu(
      {
          {"no bitmaps for who believes the autoclear bit", [](ImageFile& f) { f.Put64(88, 0); }},
          {"refcount of the directory",
           [&](ImageFile& f) { f.Put16(f.refcount_block() + directory(f) / kCluster * 2, 2); }},
          {"bitmap cluster in the L1 table",
           [&](ImageFile& f) { f.Put64(f.Get64(directory(f)), f.l1()); }},
      },
      "", {"write 0 256k", "$ qemu-img bitmap --add FILE b", "write 1M 128k"});
}

// Any one bit of the metadata, except in the header.
TEST(CheckBrokenTest, RandomBits) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  const ImageFile original(
      "cluster_size=4096,refcount_bits=8", "16M",
      {"write 0 256k", "write -z 128k 64k", "write 8M 64k", "$ qemu-img snapshot -c one FILE",
       "write 64k 64k", "write -c 1M 64k", "$ qemu-img snapshot -c two FILE", "discard 0 8k"});
  ASSERT_EQ(CheckFile(original.path()), QemuCheck(original.path()));
  ImageFile copy("cluster_size=4096", "16M", {});
  int compared = 0;
  for (int i = 0; i < 80; ++i) {
    Shell(absl::StrCat("cp '", original.path(), "' '", copy.path(), "'"));
    const std::vector<uint64_t> tables = {copy.l1(),
                                          copy.l2(),
                                          copy.refcount_table(),
                                          copy.refcount_block(),
                                          copy.snapshots(),
                                          copy.Get64(copy.snapshots())};
    const uint64_t table = tables[random() % tables.size()];
    // Most of a table is empty; its beginning is where things are.
    const uint64_t at = table + random() % 24 * 8;
    const uint64_t bit = random() % 64;
    SCOPED_TRACE(absl::StrFormat("bit %d at %#x", bit, at));
    copy.Put64(at, copy.Get64(at) ^ (uint64_t{1} << bit));
    CheckReport ours = CheckFile(copy.path());
    CheckReport theirs = QemuCheck(copy.path());
    // QEMU reads an L2 table where there cannot be one, and reports the noise.
    if (std::ranges::any_of(ours.lines, [](const std::string& line) {
          return absl::StrContains(line, "Table is not cluster aligned");
        })) {
      EXPECT_EQ(ours.exit_code, theirs.exit_code);
      continue;
    }
    ++compared;
    EXPECT_EQ(ours, theirs);
  }
  EXPECT_GT(compared, 40);
}

}  // namespace
}  // namespace ringcow
