#include "qcow2/broken_images.h"

#include <cstdint>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace ringcow {
namespace {

constexpr uint64_t kCluster = 65536;
constexpr uint64_t kCopied = uint64_t{1} << 63;
constexpr uint64_t kCompressed = uint64_t{1} << 62;

constexpr uint64_t kEighthEntry = 128;  // of an L2 table with subclusters

// Reasons to repair otherwise than QEMU.
constexpr char kTwoUses[] = "no flags are changed in a table that has two uses";
constexpr char kStumbles[] = "QEMU stumbles over the old block when it makes new ones";
constexpr char kGrows[] = "QEMU lets the file grow to where the block would be";
constexpr char kOverwrites[] = "QEMU would write the new snapshot table where the old one may be";
constexpr char kRewrites[] = "QEMU writes the bitmaps anew whenever it closes an image";

void OrWith64(ImageFile& file, uint64_t offset, uint64_t bits) {
  file.Put64(offset, file.Get64(offset) | bits);
}

BrokenImages L1AndL2Tables() {
  return {
      .name = "L1AndL2Tables",
      .options = "",
      .commands = {"write 0 256k"},
      .damages = {
          {"nothing", [](ImageFile&) {}},
          {"L1 entry with reserved bits", [](ImageFile& f) { OrWith64(f, f.l1(), 4); }},
          {"L1 entry beyond the file", [](ImageFile& f) { f.Put64(f.l1(), kCopied | 1ULL << 40); }},
          {"L1 entry at the highest offset",
           [](ImageFile& f) { f.Put64(f.l1(), kCopied | 0x00ffffffffff0000); }},
          {"L1 entry without COPIED", [](ImageFile& f) { f.Put64(f.l1(), f.l2()); }},
          {"L1 entry that points to the L1 table",
           [](ImageFile& f) { f.Put64(f.l1(), f.l1() | kCopied); }, kTwoUses},
          {"L1 entry that points to the header", [](ImageFile& f) { f.Put64(f.l1(), kCopied); },
           kTwoUses},
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
           [](ImageFile& f) { f.Put64(f.l2(), f.l2() | kCopied); }, kTwoUses},
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
      }};
}

BrokenImages RefcountStructures() {
  return {
      .name = "RefcountStructures",
      .options = "",
      .commands = {"write 0 256k"},
      .damages = {
          {"block not aligned", [](ImageFile& f) { OrWith64(f, f.refcount_table(), 512); },
           kStumbles},
          {"entry with reserved bits", [](ImageFile& f) { OrWith64(f, f.refcount_table(), 8); },
           kStumbles},
          {"no block", [](ImageFile& f) { f.Put64(f.refcount_table(), 0); }},
          {"block beyond the file", [](ImageFile& f) { f.Put64(f.refcount_table(), 1ULL << 40); },
           kGrows},
          {"block at a negative offset",
           [](ImageFile& f) { f.Put64(f.refcount_table(), 0xffffffffffff0000); }, kGrows},
          {"block at the highest offset",
           [](ImageFile& f) { f.Put64(f.refcount_table(), 0x7fffffffffff0000); }, kGrows},
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
          {"table as large as may be", [](ImageFile& f) { f.Put32(56, 128); }, kStumbles},
          {"refcount of the header", [](ImageFile& f) { f.Put16(f.refcount_block(), 0); }},
          {"refcount of an L2 table", [](ImageFile& f) { f.Put16(f.refcount_block() + 8, 2); }},
          {"refcount of a data cluster", [](ImageFile& f) { f.Put16(f.refcount_block() + 10, 9); }},
          {"refcount 0 of a data cluster",
           [](ImageFile& f) { f.Put16(f.refcount_block() + 10, 0); }},
          {"refcount behind the end", [](ImageFile& f) { f.Put16(f.refcount_block() + 2000, 7); }},
          {"highest refcount", [](ImageFile& f) { f.Put16(f.refcount_block() + 10, 0xffff); }},
      }};
}

BrokenImages RefcountWidth(int bits) {
  return {
      .name = absl::StrCat("RefcountBits", bits),
      .options = absl::StrCat("refcount_bits=", bits),
      .commands = {"write 0 256k"},
      .damages = {
          {"two references", [](ImageFile& f) { f.Put64(f.l2(), f.Get64(f.l2() + 8)); }},
          {"refcounts overwritten", [](ImageFile& f) { f.Put32(f.refcount_block(), 0x8765a321); }},
          {"no refcounts", [](ImageFile& f) { f.Put64(f.refcount_table(), 0); }}}};
}

BrokenImages Snapshots() {
  const auto extra_data_size = [](ImageFile& f, uint32_t bytes) {
    f.Put32(f.snapshots() + 36, bytes);
  };
  return {
      .name = "Snapshots",
      .options = "",
      .commands = {"write 0 256k", "$ qemu-img snapshot -c one FILE",
                   "$ qemu-img snapshot -c two FILE"},
      .damages = {
          {"L1 table not aligned", [](ImageFile& f) { OrWith64(f, f.snapshots(), 512); }},
          {"L1 table not aligned, and a zero byte in the name",
           [](ImageFile& f) {
             OrWith64(f, f.snapshots(), 512);
             const uint64_t id_and_name = f.snapshots() + 64;
             f.Put64(id_and_name, f.Get64(id_and_name) & ~(uint64_t{0xff} << 40));
           }},
          {"L1 table too large", [](ImageFile& f) { f.Put32(f.snapshots() + 8, 0x7fffffff); }},
          {"L1 table beyond the file", [](ImageFile& f) { f.Put64(f.snapshots(), 1ULL << 50); }},
          {"L1 table at a negative offset",
           [](ImageFile& f) { f.Put64(f.snapshots(), 1ULL << 63 | f.l1()); }},
          {"L1 table shared with the active one",
           [](ImageFile& f) { f.Put64(f.snapshots(), f.l1()); }},
          {"extra data too large", [=](ImageFile& f) { extra_data_size(f, 1025); }},
          {"extra data too small", [=](ImageFile& f) { extra_data_size(f, 8); }, kOverwrites},
          {"too many snapshots", [](ImageFile& f) { f.Put32(60, 100000); }, kOverwrites},
          {"one snapshot more", [](ImageFile& f) { f.Put32(60, 3); }},
          {"one snapshot less", [](ImageFile& f) { f.Put32(60, 1); }},
          {"no snapshots", [](ImageFile& f) { f.Put32(60, 0); }},
          {"65536 snapshots", [](ImageFile& f) { f.Put32(60, 65536); }, kOverwrites},
          {"table not aligned", [](ImageFile& f) { OrWith64(f, 64, 512); }},
          {"table beyond the file", [](ImageFile& f) { f.Put64(64, uint64_t{1} << 50); },
           kOverwrites},
          {"reserved bits in an L2 table that all share",
           [](ImageFile& f) { OrWith64(f, f.l2(), 8); }},
          {"COPIED in an L2 table that all share",
           [](ImageFile& f) { OrWith64(f, f.l2(), kCopied); }},
          {"refcount of a shared cluster",
           [](ImageFile& f) { f.Put16(f.refcount_block() + 10, 1); }},
      }};
}

BrokenImages ExtendedL2() {
  return {
      .name = "ExtendedL2",
      .options = "extended_l2=on",
      .commands = {"write 0 256k"},
      .damages = {
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
      }};
}

BrokenImages ExternalDataFile() {
  return {.name = "ExternalDataFile",
          .options = absl::StrCat("data_file=", std::getenv("TEST_TMPDIR"), "/data.raw"),
          .commands = {"write 0 256k"},
          .damages = {
              {"without COPIED", [](ImageFile& f) { f.Put64(f.l2(), 0x10000); }},
              {"not aligned", [](ImageFile& f) { OrWith64(f, f.l2(), 512); }},
              {"compressed", [](ImageFile& f) { f.Put64(f.l2(), kCompressed | 0x50000); }},
              {"beyond that file", [](ImageFile& f) { f.Put64(f.l2(), kCopied | 1ULL << 50); }},
              {"snapshots",
               [](ImageFile& f) {
                 f.Put64(64, f.l1());
                 f.Put32(60, 1);
               }},
          }};
}

BrokenImages Bitmaps() {
  // The directory's offset is the last field of the extension, which is the last one.
  const auto directory = [](const ImageFile& f) {
    uint64_t at = f.Get32(100);
    while (f.Get32(at) != 0x23852875) at += 8 + (f.Get32(at + 4) + 7) / 8 * 8;
    return f.Get64(at + 8 + 16);
  };
  return {.name = "Bitmaps",
          .options = "",
          .commands = {"write 0 256k", "$ qemu-img bitmap --add FILE b", "write 1M 128k"},
          .damages = {
              {"no bitmaps for who believes the autoclear bit",
               [](ImageFile& f) { f.Put64(88, 0); }, kRewrites},
              {"refcount of the directory",
               [=](ImageFile& f) { f.Put16(f.refcount_block() + directory(f) / kCluster * 2, 2); },
               kRewrites},
              {"bitmap cluster in the L1 table",
               [=](ImageFile& f) { f.Put64(f.Get64(directory(f)), f.l1()); }, kRewrites},
          }};
}

}  // namespace

std::vector<BrokenImages> AllBrokenImages() {
  std::vector<BrokenImages> all = {L1AndL2Tables(), RefcountStructures(), Snapshots(),
                                   ExtendedL2(),    ExternalDataFile(),   Bitmaps()};
  for (const int bits : {1, 2, 4, 8, 16, 32, 64}) all.push_back(RefcountWidth(bits));
  return all;
}

}  // namespace ringcow
