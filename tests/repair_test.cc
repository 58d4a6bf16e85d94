// What RepairImage leaves is clean for both checks and has the same guest bytes and snapshots; and
// so it is when the power is cut, or an I/O fails, at any point of it and it is repaired again.

#include "qcow2/repair.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/loop.h"
#include "engine/status_macros.h"
#include "engine/testing/ignored_fsyncs.h"
#include "engine/testing/sanitized.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/format/refcount_block.h"
#include "qcow2/format/units.h"
#include "qcow2/image.h"
#include "tests/explorer/first_violation.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

constexpr uint64_t kOffset = 0x00fffffffffffe00;
constexpr uint64_t kCopied = uint64_t{1} << 63;

// An image that is to be damaged.
class Patient {
 public:
  explicit Patient(DiskImage image) : image_(std::move(image)) {}

  uint64_t Get64(uint64_t at) const {
    std::vector<std::byte> bytes(8);
    image_.Read(at, bytes);
    return LoadBe<uint64_t>(bytes.data());
  }
  uint32_t Get32(uint64_t at) const { return static_cast<uint32_t>(Get64(at) >> 32); }
  void Put64(uint64_t at, uint64_t value) {
    std::vector<std::byte> bytes(8);
    StoreBe<uint64_t>(bytes.data(), value);
    image_.Write(at, bytes);
  }
  void Put32(uint64_t at, uint32_t value) {
    Put64(at, uint64_t{value} << 32 | (Get64(at) & 0xffffffff));
  }

  uint64_t cluster_bytes() const { return uint64_t{1} << Get32(20); }
  uint64_t l1() const { return Get64(40); }
  uint64_t l2() const { return Get64(l1()) & kOffset; }
  uint64_t refcount_table() const { return Get64(48); }
  uint64_t snapshots() const { return Get64(64); }
  uint64_t RefcountBlockFor(uint64_t offset) const {
    const uint64_t in_block = RefcountsIn(cluster_bytes(), Get32(96));
    return Get64(refcount_table() + offset / cluster_bytes() / in_block * 8);
  }
  bool HasRefcountOf(uint64_t offset) const { return RefcountBlockFor(offset) != 0; }
  void SetRefcountOf(uint64_t offset, uint64_t refcount) {
    std::vector<std::byte> block(cluster_bytes());
    const uint64_t in_block = RefcountsIn(block.size(), Get32(96));
    const uint64_t cluster = offset / cluster_bytes();
    const uint64_t at = RefcountBlockFor(offset);
    image_.Read(at, block);
    SetRefcount(block, cluster % in_block, Get32(96), refcount);
    image_.Write(at, block);
  }
  // Where the entry for the guest's 64 KiB is.
  uint64_t FindAllocatedZero() const {
    const bool extended = (Get64(72) & kIncompatibleExtendedL2) != 0;
    const uint64_t entry_bytes = extended ? 16 : 8;
    const uint64_t entries = cluster_bytes() / entry_bytes;
    const uint64_t cluster = uint64_t{64} * 1024 / cluster_bytes();
    const uint64_t table = Get64(l1() + cluster / entries * 8) & kOffset;
    return table + cluster % entries * entry_bytes;
  }

  DiskImage& image() { return image_; }

 private:
  DiskImage image_;
};

struct Base {
  const char* name;
  const char* options;
  std::vector<std::string> io;
  bool has_snapshots = false;
  bool is_full = false;  // all that the refcount blocks cover is in use
};
std::ostream& operator<<(std::ostream& out, const Base& base) { return out << base.name; }

// What is at 64k is zero and allocated.
const std::vector<std::string> kIo = {"write -P 5 0 80k", "write -z 64k 16k", "write -P 6 300k 8k",
                                      "write -c -P 7 128k 64k"};
const Base kBases[] = {
    {"Snapshots", "cluster_size=4k", kIo, true},
    {"SmallClusters", "cluster_size=512,refcount_bits=64", kIo, true},
    {"FullRefcountBlocks", "cluster_size=512,refcount_bits=64", kIo, true, true},
    {"OneBit", "cluster_size=4k,refcount_bits=1", {kIo.begin(), kIo.end() - 1}},
    {"ExtendedL2",
     "cluster_size=16k,extended_l2=on",
     {"write -P 5 0 80k", "write -z 64k 16k", "write -P 6 300k 8k"}},
};

// Cluster by cluster, until the file ends where the last refcount block does.
void Fill(const std::string& path) {
  constexpr uint64_t kCovered = 64 * 512;
  for (uint64_t at = 320 << 10; at < 512 << 10; at += 512) {
    QemuIo(path, {absl::StrCat("write -P 4 ", at, " 512")});
    if (std::filesystem::file_size(path) % kCovered == 0) return;
  }
  ADD_FAILURE() << "the file never ended there";
}

DiskImage Make(const Base& base) {
  const TempFile file(".qcow2");
  QemuImg({"create", "-q", "-f", "qcow2", "-o", base.options, file.path(), "512k"});
  QemuIo(file.path(), base.io);
  if (base.has_snapshots) {
    QemuImg({"snapshot", "-c", "one", file.path()});
    QemuIo(file.path(), {"write -P 8 0 16k"});
    QemuImg({"snapshot", "-c", "two", file.path()});
    QemuIo(file.path(), {"write -P 9 8k 16k"});
  }
  if (base.is_full) Fill(file.path());
  return *DiskImage::LoadFile(file.path());
}

struct Damage {
  const char* name;
  void (*apply)(Patient&);
  bool needs_snapshots = false;
  // Whether without fsyncs a power cut is seen to make it worse. (Else refcounts change that do
  // not depend on each other, or tables are written anew that were lost anyway.)
  bool needs_order = false;
};

const Damage kDamages[] = {
    {"leak",
     [](Patient& p) {
       const uint64_t end = AlignUp(p.image().size(), p.cluster_bytes());
       if (!p.HasRefcountOf(end)) return;
       p.SetRefcountOf(end, 1);
       p.image().Resize(end + 2 * p.cluster_bytes());
     }},
    {"refcount of the L1 table lost", [](Patient& p) { p.SetRefcountOf(p.l1(), 0); }, false, true},
    {"refcount table lost", [](Patient& p) { p.Put64(p.refcount_table(), 0); }},
    {"refcount table entry wrong",
     [](Patient& p) { p.Put64(p.refcount_table(), p.Get64(p.refcount_table()) | 1); }},
    {"refcount block behind the end of the file",
     [](Patient& p) {
       const uint64_t place = AlignUp(p.image().size(), p.cluster_bytes()) + p.cluster_bytes();
       if (!p.HasRefcountOf(place)) return;
       p.SetRefcountOf(place, 1);
       uint64_t entry = p.refcount_table();
       while (p.Get64(entry) != 0) entry += 8;
       p.Put64(entry, place);
     }},
    {"L1 entry without COPIED", [](Patient& p) { p.Put64(p.l1(), p.Get64(p.l1()) & ~kCopied); }},
    {"L2 entry with COPIED wrong", [](Patient& p) { p.Put64(p.l2(), p.Get64(p.l2()) ^ kCopied); }},
    {"refcount of data too high", [](Patient& p) { p.SetRefcountOf(p.Get64(p.l2()) & kOffset, 3); },
     true},
    {"refcount of data too low",
     [](Patient& p) { p.SetRefcountOf(p.Get64(p.l2() + 8) & kOffset, 1); }, true},
    {"zero entry not aligned",
     [](Patient& p) {
       const uint64_t at = p.FindAllocatedZero();
       if (p.cluster_bytes() > 512) p.Put64(at, p.Get64(at) | 512);
     },
     false, true},
    {"snapshot with too much extra data", [](Patient& p) { p.Put32(p.snapshots() + 36, 1025); },
     true, true},
    // The second entry, which begins at 72: what is behind a shorter one would be read as another,
    // from bytes that tell the time.
    {"snapshot with too little extra data", [](Patient& p) { p.Put32(p.snapshots() + 72 + 36, 8); },
     true, true},
    {"more snapshots than there are", [](Patient& p) { p.Put32(60, 3); }, true, true},
};

// What a guest sees.
struct View {
  std::vector<std::byte> bytes;
  std::vector<std::string> snapshots;

  friend bool operator==(const View&, const View&) = default;
};

absl::StatusOr<View> ViewOf(const DiskImage& image) {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, image);
  ASSIGN_OR_RETURN(const std::unique_ptr<Image> opened, Open(disk, ReadOnly()));
  View view{std::vector<std::byte>(opened->size()), {}};
  RETURN_IF_ERROR(loop.Run(opened->Read(GuestOffset(0), view.bytes)));
  for (const Snapshot& snapshot : opened->snapshots()) {
    view.snapshots.push_back(absl::StrCat(snapshot.name, snapshot.l1_table_offset.value()));
  }
  return view;
}

// Clusters that have fewer refcounts than references.
std::set<std::string> Dangling(const DiskImage& image) {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, image);
  std::set<std::string> lines;
  CheckOptions options;
  options.report = [&](absl::string_view line) {
    if (absl::StartsWith(line, "ERROR cluster ")) lines.emplace(line.substr(0, line.find(" ref")));
  };
  const auto result = loop.Run(CheckImage(disk, options));
  EXPECT_TRUE(result.ok()) << result.status();
  return lines;
}

class RepairTest : public testing::TestWithParam<Base> {
 protected:
  void SetUp() override { original_ = Make(GetParam()); }

  // For each damage that the image can have.
  template <typename Body>
  void ForEachDamage(const Body& body) {
    for (const Damage& damage : SomeOf(kDamages)) {
      if (damage.needs_snapshots && !GetParam().has_snapshots) continue;
      SCOPED_TRACE(damage.name);
      Patient patient(original_);
      damage.apply(patient);
      if (patient.image().Fingerprint() == original_.Fingerprint()) continue;
      damaged_ = patient.image();
      dangling_ = Dangling(damaged_);
      view_ = ViewOf(damaged_);
      ASSERT_NO_FATAL_FAILURE(body(damage));
    }
  }

  // Of the damaged image, as it is while it is being repaired.
  std::string Judge(const DiskImage& state);
  std::string Violation(const DiskTrace& trace) {
    return FirstViolation(trace, damaged_, {.subsets = 8, .samples = 2, .torn = 8}, states_,
                          [this](const DiskImage& state) { return Judge(state); });
  }

  DiskImage original_;
  DiskImage damaged_;
  std::set<std::string> dangling_;  // when damaged
  absl::StatusOr<View> view_;       // when damaged; it may be unreadable
  View repaired_;
  size_t states_ = 0;
};

INSTANTIATE_TEST_SUITE_P(All, RepairTest, testing::ValuesIn(kBases),
                         testing::PrintToStringParamName());

absl::Status Repair(SimDisk& disk) {
  ASSIGN_OR_RETURN(const CheckResult result,
                   disk.loop().Run(RepairImage(disk, RepairScope::kAll, {})));
  if (result.is_clean()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("left ", result.corruptions, " corruptions, ",
                                          result.leaks, " leaks, ", result.check_errors,
                                          " errors"));
}

std::string RepairTest::Judge(const DiskImage& state) {
  const absl::StatusOr<View> before = ViewOf(state);
  if (view_.ok() && !before.ok()) return before.status().ToString();
  if (view_.ok() && *before != *view_ && *before != repaired_) return "the guest sees a change";
  const std::set<std::string> dangling = Dangling(state);
  if (!std::ranges::includes(dangling_, dangling)) return "clusters lost their refcounts";

  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, state);
  const absl::Status again = Repair(disk);
  if (!again.ok()) return again.ToString();
  const absl::StatusOr<View> after = ViewOf(disk.content());
  if (!after.ok()) return after.status().ToString();
  if (*after != repaired_) return "the guest sees something else after another repair";
  return Findings(disk);
}

TEST_P(RepairTest, LeavesWhatBothFindCleanAndTheSameBytes) {
  const absl::StatusOr<View> original = ViewOf(original_);
  ASSERT_TRUE(original.ok()) << original.status();
  ForEachDamage([&](const Damage&) {
    Loop loop;
    SimDisk disk(loop, {}, damaged_);
    EXPECT_NE(Findings(disk), "");
    EXPECT_EQ(Repair(disk), absl::OkStatus());
    EXPECT_EQ(Findings(disk), "");
    const TempFile repaired(".qcow2");
    ASSERT_TRUE(disk.content().SaveFile(repaired.path()).ok());
    const ToolResult check = QemuCheck(repaired.path());
    EXPECT_EQ(check.status, 0) << check.output;
    const absl::StatusOr<View> view = ViewOf(disk.content());
    ASSERT_TRUE(view.ok()) << view.status();
    EXPECT_EQ(view->bytes, original->bytes);
  });
}

TEST_P(RepairTest, IsRepairedAgainAfterAPowerCut) {
  ForEachDamage([&](const Damage& damage) {
    Loop loop;
    SimDisk disk(loop, {.latency = 1}, damaged_);
    ASSERT_EQ(Repair(disk), absl::OkStatus());
    const absl::StatusOr<View> view = ViewOf(disk.content());
    ASSERT_TRUE(view.ok()) << view.status();
    repaired_ = *view;
    states_ = 0;
    EXPECT_EQ(Violation(disk.trace()), "");
    EXPECT_GT(states_, 1U);
    if (!damage.needs_order) return;
    EXPECT_NE(Violation(WithIgnoredFsyncs(disk.trace(), [](size_t, Content) { return true; })), "")
        << "control";
  });
}

TEST_P(RepairTest, IsRepairedAgainAfterAFailure) {
  ForEachDamage([&](const Damage&) {
    {
      Loop loop;
      SimDisk disk(loop, {.latency = 1}, damaged_);
      ASSERT_EQ(Repair(disk), absl::OkStatus());
      const absl::StatusOr<View> view = ViewOf(disk.content());
      ASSERT_TRUE(view.ok()) << view.status();
      repaired_ = *view;
    }
    for (const Fault fault : {Fault::Error(EIO), Fault::Error(ENOSPC, 512)}) {
      bool failed = true;
      for (uint64_t n = 0; failed; n += kFaultStride) {
        SCOPED_TRACE(absl::StrCat("request ", n));
        failed = false;
        Loop loop;
        SimDisk disk(loop, {.latency = 1, .record = false}, damaged_);
        disk.SetFaults([&](const Request&, uint64_t ordinal) {
          if (ordinal != n) return Fault::None();
          failed = true;
          return fault;
        });
        const absl::Status status = Repair(disk);
        disk.SetFaults([](const Request&, uint64_t) { return Fault::None(); });
        // A refcount that cannot be read may not be needed, or be read again.
        if (status.ok()) ASSERT_EQ(Findings(disk), "");
        ASSERT_TRUE(failed || status.ok()) << status;
        ASSERT_EQ(Judge(disk.content()), "");
      }
    }
  });
}

// As a block device, or a file on a full disk.
TEST(RepairOfAFullDisk, NewRefcountBlocksFindRoomInTheFile) {
  const TempFile file(".qcow2");
  QemuImg({"create", "-q", "-f", "qcow2", "-o", "cluster_size=512", file.path(), "512k"});
  QemuIo(file.path(), {"write -P 5 0 512k", "discard 0 64k"});
  Patient patient(*DiskImage::LoadFile(file.path()));
  uint64_t last_entry = patient.refcount_table();
  while (patient.Get64(last_entry + 8) != 0) last_entry += 8;
  EXPECT_GE(last_entry, patient.refcount_table() + 4 * 8) << "too few blocks to run out of room";
  patient.Put64(last_entry, 0);
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, patient.image());
  const uint64_t size = disk.size();
  disk.SetFaults([size](const Request& request, uint64_t) {
    const bool grows = request.op != Op::kRead && request.end().value() > size;
    return grows ? Fault::Error(ENOSPC) : Fault::None();
  });
  EXPECT_EQ(Repair(disk), absl::OkStatus());
  EXPECT_EQ(Findings(disk), "");
  EXPECT_EQ(disk.size(), size);
}

}  // namespace
}  // namespace ringcow
