// A request meets a corruption while others are under way: the image is marked as corrupt, durably,
// and that is the last of its metadata that is written. Wherever the power is cut, and whichever
// I/O fails, what was flushed is there, nothing is more damaged than before, and an image that is
// marked is not written to any more.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/scope.h"
#include "engine/testing/crash_point.h"
#include "engine/testing/ignored_fsyncs.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/check.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/image.h"
#include "tests/explorer/crash_states.h"
#include "tests/explorer/failure_kind.h"
#include "tests/explorer/remnant.h"
#include "tests/support/hosts.h"
#include "tests/support/stamped_guest.h"

namespace ringcow {
namespace {

constexpr uint64_t kUnit = 512;
constexpr uint64_t kCluster = 1024;
constexpr uint64_t kUnits = 128;
constexpr uint64_t kFilledUnits = 42;
constexpr uint64_t kDamagedUnit = 40;  // and the next one: a cluster
constexpr uint64_t kFreshUnit = 120;
constexpr uint64_t kCopied = uint64_t{1} << 63;
constexpr uint64_t kCorruptByte = 79;
constexpr std::byte kCorruptBit{2};

uint64_t Get64(const DiskImage& image, uint64_t at) {
  std::vector<std::byte> bytes(8);
  image.Read(at, bytes);
  return LoadBe<uint64_t>(bytes.data());
}
void Put64(DiskImage& image, uint64_t at, uint64_t value) {
  std::vector<std::byte> bytes(8);
  StoreBe<uint64_t>(bytes.data(), value);
  image.Write(at, bytes);
}
uint64_t OffsetIn(uint64_t entry) { return entry & 0x00fffffffffffe00; }
uint64_t L2Table(const DiskImage& image) { return OffsetIn(Get64(image, Get64(image, 40))); }

struct Damage {
  const char* name;
  void (*damage)(DiskImage& image);
  uint64_t meets;   // the unit whose write meets it
  uint64_t worked;  // units from the beginning that workers write to
};
std::ostream& operator<<(std::ostream& out, const Damage& damage) { return out << damage.name; }

uint64_t DamagedEntry(const DiskImage& image) {
  return L2Table(image) + kDamagedUnit * kUnit / kCluster * 8;
}

const Damage kDamages[] = {
    {"EntryNotAligned",
     [](DiskImage& image) {
       Put64(image, DamagedEntry(image), Get64(image, DamagedEntry(image)) + 512);
     },
     kDamagedUnit, 112},
    {"DataInL2Table",
     [](DiskImage& image) { Put64(image, DamagedEntry(image), L2Table(image) | kCopied); },
     kDamagedUnit, 112},
    // The next cluster that is allocated would be the table. So workers allocate none.
    {"L2TableFree",
     [](DiskImage& image) {
       const uint64_t block = Get64(image, Get64(image, 48));
       Put64(image, block + L2Table(image) / kCluster * 8, 0);
     },
     kFreshUnit, kDamagedUnit},
};

bool IsMarked(const DiskImage& image) {
  std::byte byte{};
  image.Read(kCorruptByte, std::span(&byte, 1));
  return (byte & kCorruptBit) != std::byte{0};
}

absl::StatusOr<CheckResult> Check(const DiskImage& image) {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, image);
  return loop.Run(CheckImage(disk, {}));
}

// The image at work. What happens follows from the seed alone.
struct AtWork {
  AtWork(const Damage& damage, const DiskImage& prepared, uint64_t seed)
      : damage(damage),
        seed(seed),
        disk(loop, {.seed = seed, .stragglers = 12}, prepared),
        guest(disk.trace(), kUnits, kUnit) {}

  const Damage& damage;
  const uint64_t seed;
  Loop loop;
  SimDisk disk;
  StampedGuest guest;
  absl::Status opened;
  std::unique_ptr<Image> image;
  absl::Status met;     // what the request that met the corruption was told
  size_t met_at = 0;    // events in the trace then...
  size_t ended_at = 0;  // ...and when all workers had ended
};

constexpr uint64_t kWorkers = 3;

// Every third unit is this worker's.
Task<absl::Status> WorkOn(AtWork& run, uint64_t worker) {
  std::mt19937_64 random(run.seed * 10 + worker);
  const uint64_t turn = 3 + random() % 8;
  const std::vector<std::byte> bytes(kUnit, std::byte{1});
  for (uint64_t step = 0; step < 14; ++step) {
    if (worker == 0 && step == turn) {
      run.met = co_await run.image->Write(GuestOffset(run.damage.meets * kUnit), bytes);
      run.met_at = run.disk.trace().size();
    }
    const uint64_t unit = random() % (run.damage.worked / kWorkers) * kWorkers + worker;
    const bool is_damaged = unit / 2 == kDamagedUnit / 2;
    if (!is_damaged) (void)co_await run.guest.Write(*run.image, unit, 1);  // the guest remembers
    if (random() % 3 == 0) (void)co_await run.guest.Flush(*run.image);
  }
  co_return absl::OkStatus();
}

void Work(AtWork& run, OverlapCheck check = OverlapCheck::kCached) {
  OpenOptions options;
  options.overlap_check = check;
  options.grow_ahead = false;
  options.write_back.form = run.seed % 2 == 0 ? PlanForm::kChain : PlanForm::kStages;
  absl::StatusOr<std::unique_ptr<Image>> image = Open(run.disk, options);
  run.opened = image.status();
  if (!run.opened.ok()) return;
  run.image = *std::move(image);
  Scope workers(run.loop);
  for (uint64_t worker = 0; worker < kWorkers; ++worker) workers.Spawn(WorkOn(run, worker));
  (void)run.loop.Run(workers.Join());
  run.ended_at = run.disk.trace().size();
}

// All that may be asked of it, in vain.
void TryToChange(AtWork& run) {
  const std::vector<std::byte> bytes(kUnit, std::byte{1});
  Image& image = *run.image;
  for (const uint64_t unit : {uint64_t{0}, uint64_t{1}, kFreshUnit, kDamagedUnit}) {
    const GuestOffset at(unit / 2 * kCluster);
    EXPECT_FALSE(run.loop.Run(image.Write(at, bytes)).ok());
    EXPECT_FALSE(run.loop.Run(image.WriteZeroes(at, kCluster, ZeroManner::kMayUnmap)).ok());
    EXPECT_FALSE(run.loop.Run(image.Discard(at, kCluster)).ok());
  }
  EXPECT_FALSE(run.loop.Run(image.CreateSnapshot(Snapshot())).ok());
  EXPECT_FALSE(run.loop.Run(image.Resize(kUnits * kUnit * 2, Preallocation::kOff)).ok());
  EXPECT_FALSE(run.loop.Run(image.AddBitmap("new", kCluster, true)).ok());
  EXPECT_FALSE(run.loop.Run(image.Empty()).ok());
  EXPECT_FALSE(run.loop.Run(image.Flush()).ok());
  EXPECT_FALSE(run.loop.Run(image.Close()).ok());
}

bool MarksTheImage(const TraceEvent& event) {
  if (event.kind != TraceEvent::Kind::kStarted || event.request->content != Content::kHeader) {
    return false;
  }
  DiskImage header;
  header.Write(0, std::vector<std::byte>(512));
  header.Write(event.request->offset.value(), event.request->bytes);
  return event.request->op == Op::kWrite && IsMarked(header);
}

// Behind the corrupt bit there may be its fsync, and guest data of requests that had begun.
std::string WrittenTooLate(const DiskTrace& trace, size_t ended_at) {
  bool is_marked = false;
  for (size_t i = 0; i < trace.size(); ++i) {
    const TraceEvent& event = trace.events()[i];
    if (event.kind != TraceEvent::Kind::kStarted) continue;
    if (is_marked && event.request->op != Op::kFdatasync &&
        (i >= ended_at || event.request->content != Content::kData)) {
      return absl::StrCat("event ", i, " behind the corrupt bit: ", ToString(event));
    }
    is_marked |= MarksTheImage(event);
  }
  return "";
}

class CorruptionCrashTest : public testing::TestWithParam<Damage> {
 protected:
  void SetUp() override;
  std::string Judge(const StampedGuest& guest, const DiskImage& state, size_t position);
  // Cuts the power all along `trace`, that of the run or one in which the disk did less. What is
  // wrong with the first bad state, if there is one.
  std::string FirstViolation(const AtWork& run, const DiskTrace& trace);

  DiskImage prepared_;
  uint64_t corruptions_ = 0;
  size_t states_ = 0;
  size_t marked_ = 0;  // of them
};
INSTANTIATE_TEST_SUITE_P(All, CorruptionCrashTest, testing::ValuesIn(kDamages),
                         testing::PrintToStringParamName());

void CorruptionCrashTest::SetUp() {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false});
  ASSERT_EQ(
      Create(disk, {.virtual_size = kUnits * kUnit, .cluster_size = kCluster, .refcount_bits = 64}),
      absl::OkStatus());
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk);
  ASSERT_TRUE(image.ok()) << image.status();
  const std::vector<std::byte> zeroes(kFilledUnits * kUnit);
  ASSERT_EQ(loop.Run((*image)->Write(GuestOffset(0), zeroes)), absl::OkStatus());
  ASSERT_EQ(loop.Run((*image)->Close()), absl::OkStatus());
  prepared_ = disk.content();
  GetParam().damage(prepared_);
  const absl::StatusOr<CheckResult> result = Check(prepared_);
  ASSERT_TRUE(result.ok()) << result.status();
  corruptions_ = result->corruptions;
  ASSERT_GT(corruptions_, 0U);
}

std::string CorruptionCrashTest::Judge(const StampedGuest& guest, const DiskImage& state,
                                       size_t position) {
  const absl::StatusOr<CheckResult> found = Check(state);
  if (!found.ok()) return found.status().ToString();
  if (found->corruptions > corruptions_) {
    return absl::StrCat(found->corruptions, " corruptions, not ", corruptions_, " as before");
  }
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, state);
  {
    const absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, ReadOnly());
    if (!image.ok()) return image.status().ToString();
    std::vector<std::byte> bytes(kUnits * kUnit);
    // But for the damaged cluster, of which nobody knows.
    constexpr uint64_t kDamaged = kDamagedUnit * kUnit;
    const std::span<std::byte> all(bytes);
    absl::Status read = loop.Run((*image)->Read(GuestOffset(0), all.first(kDamaged)));
    read.Update(loop.Run(
        (*image)->Read(GuestOffset(kDamaged + kCluster), all.subspan(kDamaged + kCluster))));
    if (!read.ok()) return read.ToString();
    if (std::string wrong = guest.CheckAfterCrash(bytes, position); !wrong.empty()) return wrong;
  }
  ++states_;
  const absl::Status opened = Open(disk).status();
  if (!IsMarked(state)) return opened.ok() ? "" : opened.ToString();
  ++marked_;
  return absl::IsFailedPrecondition(opened) ? "" : "a corrupt image was opened for writing";
}

std::string CorruptionCrashTest::FirstViolation(const AtWork& run, const DiskTrace& trace) {
  std::mt19937_64 random(run.seed);
  std::unordered_set<uint64_t> judged;
  size_t promised = 0;
  std::string violation;
  CrashPoint point(trace, prepared_);
  do {
    const size_t now_promised = run.guest.FlushedBefore(point.position());
    if (now_promised != promised) judged.clear();
    promised = now_promised;
    ForEachCrash(point, StateBudget(), random, [&](const Remnants& remnants) {
      const DiskImage state = StateOf(point, remnants);
      // Who was told has the image marked.
      if (point.position() >= run.met_at && !IsMarked(state)) violation = "the bit is not durable";
      if (violation.empty() && judged.insert(state.Fingerprint()).second) {
        violation = Judge(run.guest, state, point.position());
      }
      if (!violation.empty()) {
        violation = absl::StrCat("crash after event ", point.position(), ": ", violation, "\n",
                                 Describe(point, remnants));
      }
      return violation.empty();
    });
  } while (violation.empty() && point.Advance());
  return violation;
}

TEST_P(CorruptionCrashTest, LeavesWhatWasFlushed) {
  size_t flushes = 0;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    AtWork run(GetParam(), prepared_, seed);
    Work(run);
    ASSERT_EQ(run.opened, absl::OkStatus());
    EXPECT_TRUE(absl::StrContains(run.met.message(), "qcow2: Marking image as corrupt: "))
        << run.met;
    TryToChange(run);
    EXPECT_EQ(WrittenTooLate(run.disk.trace(), run.ended_at), "");
    ASSERT_EQ(FirstViolation(run, run.disk.trace()), "");
    flushes += run.guest.flushes();
  }
  EXPECT_GT(flushes, 5U);
  EXPECT_GT(states_, 200U);
  EXPECT_GT(marked_, 10U);
  EXPECT_LT(marked_, states_);
}

// An I/O that fails has its request told so; what has been told to be corrupt stays so in memory,
// whether it could be marked or not.
TEST_P(CorruptionCrashTest, EveryRequestFailsOnce) {
  for (const FailureKind kind : kAllFailureKinds) {
    for (uint64_t n = 0;; ++n) {
      SCOPED_TRACE(testing::Message() << NameOf(kind) << ", request " << n);
      AtWork run(GetParam(), prepared_, n + 1);
      run.disk.SetFaults(FailNth(kind, n));
      Work(run);
      const bool has_failed = run.disk.requests() > n;
      run.disk.SetFaults(nullptr);
      if (run.image != nullptr) {
        EXPECT_FALSE(run.met.ok());
        // Unless the request failed before it met anything.
        if (!run.image->failure().ok()) {
          TryToChange(run);
          EXPECT_EQ(WrittenTooLate(run.disk.trace(), run.ended_at), "");
        }
        run.image.reset();
      }
      EXPECT_EQ(Judge(run.guest, run.disk.content(), run.disk.trace().size()), "");
      if (HasFailure()) return;
      if (!has_failed) break;
    }
  }
}

TEST_P(CorruptionCrashTest, ControlForgottenFsyncsAreFound) {
  std::string found;
  for (uint64_t seed = 1; seed <= 4 && found.empty(); ++seed) {
    AtWork run(GetParam(), prepared_, seed);
    Work(run);
    found = FirstViolation(run, WithIgnoredFsyncs(run.disk.trace(), [](size_t, Content written) {
                             return written == Content::kHeader;
                           }));
  }
  EXPECT_TRUE(absl::StrContains(found, "the bit is not durable")) << found;
}

// Without the guard the damage spreads, and somebody has to see it.
TEST_P(CorruptionCrashTest, ControlWithoutTheGuard) {
  if (absl::StrContains(GetParam().name, "NotAligned")) GTEST_SKIP() << "no guard is needed";
  std::string found;
  for (uint64_t seed = 1; seed <= 4 && found.empty(); ++seed) {
    AtWork run(GetParam(), prepared_, seed);
    Work(run, OverlapCheck::kNone);
    run.met_at = run.disk.trace().size() + 1;
    found = FirstViolation(run, run.disk.trace());
  }
  EXPECT_NE(found, "");
}

Task<absl::Status> WriteTable(Disk& disk) {
  const std::vector<std::byte> bytes(kUnit);
  co_return co_await disk.Write(HostOffset(kCluster), bytes, Content::kL2);
}

// What is written behind the bit is seen.
TEST_P(CorruptionCrashTest, ControlWritesBehindTheBitAreFound) {
  AtWork run(GetParam(), prepared_, 1);
  Work(run);
  ASSERT_EQ(run.loop.Run(WriteTable(run.disk)), absl::OkStatus());
  EXPECT_NE(WrittenTooLate(run.disk.trace(), run.ended_at), "");
}

}  // namespace
}  // namespace ringcow
