// Random changes, orders, evictions and flushes by several coroutines under a tiny cache, compared
// with a model in memory; then random power cuts in what the disk has seen of it.

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cache/table_cache.h"
#include "cache/write_back.h"
#include "engine/aligned_buffer.h"
#include "engine/scope.h"
#include "engine/status_macros.h"
#include "engine/testing/crash_point.h"
#include "engine/testing/ignored_fsyncs.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr uint32_t kTable = 4096;
constexpr uint32_t kSector = 512;
constexpr size_t kSectors = kTable / kSector;
// Places of one table each: those of the first cache, of the second, and guest data.
constexpr size_t kTablesPerCache = 16;
constexpr size_t kTables = 2 * kTablesPerCache;
constexpr size_t kWorkers = 3;
constexpr size_t kDataPerWorker = 2;
constexpr size_t kPlaces = kTables + kWorkers * kDataPerWorker;

// Every change of a sector fills it with the next stamp, so that stamps only grow, in memory and on
// the disk, and say how old each sector is.
using Stamp = uint64_t;
using Stamps = std::array<Stamp, kPlaces * kSectors>;

// Whoever finds `after` at its stamp, or a later one, must find `before` at its stamp or later.
struct Implication {
  size_t before;  // sectors, counted from the first place
  Stamp before_stamp;
  size_t after;
  Stamp after_stamp;
};

// Whoever finds `after` at its stamp, or a later one, must find the disk at least this large.
struct Growth {
  uint64_t size;
  size_t after;
  Stamp after_stamp;
};

// From this event of the trace on, at least these stamps survive.
struct Promise {
  size_t position;
  Stamps stamps;
};

struct RunOptions {
  PlanForm form = PlanForm::kAuto;
  CacheMode mode = CacheMode::kWriteback;
  uint64_t seed = 1;
  size_t steps = 60;  // of each worker
  bool write_faults = false;
  bool fsync_fault = false;
  // Negative controls.
  bool declare_edges = true;
  bool declare_data = true;
};

class RandomRun {
 public:
  explicit RandomRun(const RunOptions& options)
      : options_(options),
        random_(options.seed),
        disk_(loop_, {.seed = options.seed}),
        write_back_(
            disk_,
            {.mode = options.mode, .form = options.form, .chain_writes = 3, .durable_writes = 1}),
        caches_{{{write_back_, CacheOptions(Content::kRefcountBlock)},
                 {write_back_, CacheOptions(Content::kL2)}}} {
    if (options_.fsync_fault) failing_fsync_ = random_() % 40;
    disk_.SetFaults([this](const Request& request, uint64_t) { return NextFault(request); });
  }

  // Empty, or what went wrong while it ran.
  std::string Run() {
    Scope scope(loop_);
    for (size_t i = 0; i < kWorkers; ++i) scope.Spawn(Work(i));
    (void)loop_.Run(scope.Join());
    faults_end_ = true;
    if (write_back_.failure().ok()) loop_.Run(FlushAndCompare());
    return mismatch_;
  }

  const DiskTrace& trace() const { return disk_.trace(); }
  const std::vector<Implication>& implications() const { return implications_; }
  const std::vector<Growth>& growths() const { return growths_; }
  const std::vector<Promise>& promises() const { return promises_; }
  // The plan, counted from 1, that was under way when the n-th request was made.
  uint64_t PlanOf(uint64_t ordinal) const { return plans_[ordinal]; }
  uint64_t durable_plans() const { return write_back_.counters().durable; }
  bool has_failed_fsync() const { return !write_back_.failure().ok(); }
  size_t failed_operations() const { return failed_operations_; }

 private:
  // The workers pin at most twice as many, so that most of the tables are evicted again and again.
  static TableCacheOptions CacheOptions(Content content) {
    return {.content = content,
            .table_bytes = kTable,
            .whole_bytes = kTablesPerCache * kTable,
            .tables = 4};
  }

  Fault NextFault(const Request& request) {
    plans_.push_back(write_back_.counters().plans);
    if (faults_end_) return Fault();
    if (request.op == Op::kFdatasync) {
      return fsyncs_++ >= failing_fsync_ ? Fault::Error(EIO) : Fault();
    }
    if (!options_.write_faults || random_() % 12 != 0) return Fault();
    const uint64_t applied = random_() % (request.length / kSector + 1) * kSector;
    if (random_() % 3 == 0 && request.is_transfer() && !request.dsync) return Fault::Short(applied);
    // A durable write that fails otherwise counts as a failed fsync.
    const bool is_full = random_() % 2 == 0 || (request.dsync && !options_.fsync_fault);
    return Fault::Error(is_full ? ENOSPC : EIO, request.op == Op::kRead ? 0 : applied);
  }

  Task<absl::Status> Work(size_t worker) {
    for (size_t i = 0; i < options_.steps && mismatch_.empty(); ++i) {
      const absl::Status status = co_await Step(worker);
      if (!status.ok()) ++failed_operations_;
      if (status.ok() && options_.mode == CacheMode::kWritethrough) (void)co_await EndUpdate();
    }
    co_return absl::OkStatus();
  }

  Task<absl::Status> Step(size_t worker) {
    switch (random_() % 10) {
      case 0:
        co_return co_await FlushAndPromise();
      case 1:
      case 2:
        co_return co_await NewTable();
      case 3:
      case 4:
        co_return co_await CopyData(worker);
      case 5:
        if (random_() % 2 == 0) co_return co_await GrowAndRefer();
        for (uint64_t i = random_() % 8; i > 0; --i) co_await loop_.Yield();
        co_return absl::OkStatus();
      default:
        co_return co_await ChangeInOrder();
    }
  }

  // A change of one table, then one of another that refers to it.
  Task<absl::Status> ChangeInOrder() {
    const size_t first = random_() % kTables;
    const size_t second = (first + 1 + random_() % (kTables - 1)) % kTables;
    CO_ASSIGN_OR_RETURN(const TablePin after, co_await Get(second));
    CO_ASSIGN_OR_RETURN(const TablePin before, co_await Get(first));
    const size_t from = Change(before, first, random_() % kSectors);
    const Stamp stamp = model_[from];
    if (options_.declare_edges) {
      CO_RETURN_IF_ERROR(co_await write_back_.SetDependency(after.table(), before.table()));
    }
    const size_t to = Change(after, second, random_() % kSectors);
    implications_.push_back({from, stamp, to, model_[to]});
    co_return absl::OkStatus();
  }

  // The disk grows, a table counts what it has grown by, and another refers to it.
  Task<absl::Status> GrowAndRefer() {
    const size_t first = random_() % kTables;
    const size_t second = (first + 1 + random_() % (kTables - 1)) % kTables;
    CO_ASSIGN_OR_RETURN(const TablePin after, co_await Get(second));
    CO_ASSIGN_OR_RETURN(const TablePin before, co_await Get(first));
    const uint64_t size = std::max<uint64_t>(disk_.size(), kPlaces * kTable) + kTable;
    CO_RETURN_IF_ERROR(co_await disk_.Allocate(HostOffset(size - kTable), kTable));
    Change(before, first, random_() % kSectors);
    if (options_.declare_edges) {
      CO_RETURN_IF_ERROR(co_await write_back_.SetDependency(after.table(), before.table()));
    }
    const size_t to = Change(after, second, random_() % kSectors);
    growths_.push_back({size, to, model_[to]});
    co_return absl::OkStatus();
  }

  // A new table, and one that refers to it.
  Task<absl::Status> NewTable() {
    const size_t first = random_() % kTables;
    const size_t second = (first + 1 + random_() % (kTables - 1)) % kTables;
    CO_ASSIGN_OR_RETURN(const TablePin after, co_await Get(second));
    CO_ASSIGN_OR_RETURN(const TablePin empty, co_await CacheOf(first).GetEmpty(Place(first)));
    for (size_t sector = 0; sector < kSectors; ++sector) Change(empty, first, sector);
    const Stamp stamp = model_[first * kSectors];
    if (options_.declare_edges) {
      CO_RETURN_IF_ERROR(co_await write_back_.SetDependency(after.table(), empty.table()));
    }
    const size_t to = Change(after, second, random_() % kSectors);
    for (size_t sector = 0; sector < kSectors; ++sector) {
      implications_.push_back({first * kSectors + sector, stamp, to, model_[to]});
    }
    co_return absl::OkStatus();
  }

  // Guest data, then a table that shows it.
  Task<absl::Status> CopyData(size_t worker) {
    const size_t place = kTables + worker * kDataPerWorker + random_() % kDataPerWorker;
    const AlignedBuffer data(kTable);
    const Stamp stamp = ++newest_;
    for (size_t sector = 0; sector < kSectors; ++sector) Fill(data.span(), sector, stamp);
    CO_RETURN_IF_ERROR(co_await disk_.Write(Place(place), data.span()));
    for (size_t i = 0; i < kSectors; ++i) model_[place * kSectors + i] = stamp;

    const size_t second = random_() % kTables;
    CO_ASSIGN_OR_RETURN(const TablePin after, co_await Get(second));
    if (options_.declare_data) write_back_.DependsOnFlush(after.table());
    const size_t to = Change(after, second, random_() % kSectors);
    for (size_t i = 0; i < kSectors; ++i) {
      implications_.push_back({place * kSectors + i, stamp, to, model_[to]});
    }
    co_return absl::OkStatus();
  }

  Task<absl::Status> FlushAndPromise() {
    const Stamps before = model_;
    CO_RETURN_IF_ERROR(co_await write_back_.Flush());
    promises_.push_back({disk_.trace().size(), before});
    co_return absl::OkStatus();
  }

  Task<absl::Status> EndUpdate() {
    const Stamps before = model_;
    CO_RETURN_IF_ERROR(co_await write_back_.EndUpdate());
    promises_.push_back({disk_.trace().size(), before});
    co_return absl::OkStatus();
  }

  // At the end, nothing may be missing: in the cache, and on the disk.
  Task<void> FlushAndCompare() {
    if (const absl::Status status = co_await FlushAndPromise(); !status.ok()) {
      mismatch_ = absl::StrCat("the last flush failed: ", status.ToString());
    }
    for (size_t n = 0; n < kTables; ++n) (void)co_await Get(n);
    std::array<std::byte, kTable> bytes{};
    for (size_t n = 0; n < kTables; ++n) {
      disk_.content().Read(n * kTable, bytes);
      Compare(n, bytes, "the disk");
    }
    if (disk_.changed_under_way() > 0) mismatch_ = "memory changed while it was being written";
  }

  Task<absl::StatusOr<TablePin>> Get(size_t n) {
    absl::StatusOr<TablePin> pin = co_await CacheOf(n).Get(Place(n));
    if (pin.ok()) Compare(n, pin->bytes(), "the cache");
    co_return pin;
  }

  void Compare(size_t n, std::span<const std::byte> bytes, absl::string_view where) {
    for (size_t i = 0; i < kTable / sizeof(Stamp); ++i) {
      Stamp found = 0;
      std::memcpy(&found, bytes.data() + i * sizeof(Stamp), sizeof(found));
      const Stamp expected = model_[n * kSectors + i * sizeof(Stamp) / kSector];
      if (found == expected) continue;
      mismatch_ = absl::StrFormat("table %d in %s: stamp %d where %d was written", n, where, found,
                                  expected);
      return;
    }
  }

  static void Fill(std::span<std::byte> table, size_t sector, Stamp stamp) {
    for (size_t at = 0; at < kSector; at += sizeof(stamp)) {
      std::memcpy(table.data() + sector * kSector + at, &stamp, sizeof(stamp));
    }
  }
  // Returns the sector, counted from the first place.
  size_t Change(const TablePin& pin, size_t n, size_t sector) {
    Fill(pin.bytes(), sector, ++newest_);
    model_[n * kSectors + sector] = newest_;
    CacheOf(n).MarkDirty(pin, sector * kSector, kSector);
    return n * kSectors + sector;
  }
  TableCache& CacheOf(size_t n) { return caches_[n / kTablesPerCache]; }
  static HostOffset Place(size_t n) { return HostOffset(n * kTable); }

  const RunOptions options_;
  std::mt19937_64 random_;
  Loop loop_;
  SimDisk disk_;
  WriteBack write_back_;
  std::array<TableCache, 2> caches_;

  Stamp newest_ = 0;
  Stamps model_{};
  std::vector<Implication> implications_;
  std::vector<Growth> growths_;
  std::vector<Promise> promises_;
  std::vector<uint64_t> plans_;  // of each request
  std::string mismatch_;
  size_t failed_operations_ = 0;
  uint64_t fsyncs_ = 0;
  uint64_t failing_fsync_ = ~uint64_t{0};
  bool faults_end_ = false;
};

// The stamps a crash has left: a sector is written whole or not at all.
Stamps ReadStamps(const DiskImage& image) {
  Stamps stamps{};
  std::array<std::byte, kTable> bytes{};
  for (size_t n = 0; n < kPlaces; ++n) {
    image.Read(n * kTable, bytes);
    for (size_t i = 0; i < kSectors; ++i) {
      std::memcpy(&stamps[n * kSectors + i], bytes.data() + i * kSector, sizeof(Stamp));
    }
  }
  return stamps;
}

struct Violations {
  size_t states = 0;
  size_t orders = 0;
  size_t growths = 0;
  size_t promises = 0;
  std::string first;
};

void CheckGrowth(const RandomRun& run, size_t position, const DiskImage& image, const Stamps& found,
                 Violations& violations) {
  for (const Growth& growth : run.growths()) {
    if (found[growth.after] < growth.after_stamp || image.size() >= growth.size) continue;
    ++violations.growths;
    if (violations.first.empty()) {
      violations.first = absl::StrFormat(
          "crash at event %d: sector %d has stamp %d, but the disk has %d bytes, not %d", position,
          growth.after, found[growth.after], image.size(), growth.size);
    }
  }
}

void Check(const RandomRun& run, size_t position, const DiskImage& image, Violations& violations) {
  const Stamps found = ReadStamps(image);
  ++violations.states;
  CheckGrowth(run, position, image, found, violations);
  for (const Implication& implication : run.implications()) {
    if (found[implication.after] < implication.after_stamp) continue;
    if (found[implication.before] >= implication.before_stamp) continue;
    ++violations.orders;
    if (violations.first.empty()) {
      violations.first =
          absl::StrFormat("crash at event %d: sector %d has stamp %d, but sector %d has %d, not %d",
                          position, implication.after, found[implication.after], implication.before,
                          found[implication.before], implication.before_stamp);
    }
  }
  const auto kept =
      std::partition_point(run.promises().begin(), run.promises().end(),
                           [&](const Promise& promise) { return promise.position <= position; });
  if (kept == run.promises().begin()) return;
  const Stamps& promised = std::prev(kept)->stamps;
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] >= promised[i]) continue;
    ++violations.promises;
    if (violations.first.empty()) {
      violations.first = absl::StrFormat("crash at event %d: sector %d has stamp %d, flushed %d",
                                         position, i, found[i], promised[i]);
    }
  }
}

// One of the states in which a crash at `point` may leave the disk.
DiskImage RandomState(const CrashPoint& point, std::mt19937_64& random) {
  DiskImage image = point.durable();
  const uint64_t survive = random() % 5;  // of 4: none, some, all
  for (const PendingChange& change : point.pending()) {
    if (random() % 4 >= survive) continue;
    if (change.sectors() > 1 && random() % 2 == 0) {
      change.ApplyTornTo(image, [&](uint64_t) { return random() % 2 == 0; });
    } else {
      change.ApplyTo(image);
    }
  }
  return image;
}

// Crashes all along `trace`: the run's own, or one in which fsyncs did less than they said.
Violations CutPower(const RandomRun& run, const DiskTrace& trace, uint64_t seed) {
  std::mt19937_64 random(seed);
  Violations violations;
  CrashPoint point(trace);
  do {
    for (int i = 0; i < 2; ++i) {
      if (point.pending().empty() && i > 0) break;
      Check(run, point.position(), RandomState(point, random), violations);
    }
  } while (point.Advance());
  return violations;
}

// The trace of a run in stages, if the first stage of every plan had been written durably, without
// an fsync behind it, whatever else had to be durable before the second.
DiskTrace WithFirstStagesDurable(const RandomRun& run) {
  std::map<uint64_t, std::vector<uint64_t>> fsyncs;  // ordinals, by plan
  for (const TraceEvent& event : run.trace().events()) {
    if (event.kind != TraceEvent::Kind::kStarted || event.request->op != Op::kFdatasync) continue;
    fsyncs[run.PlanOf(event.request->ordinal)].push_back(event.request->ordinal);
  }
  DiskTrace changed;
  for (const TraceEvent& event : run.trace().events()) {
    if (event.kind == TraceEvent::Kind::kMark) {
      changed.Mark(event.mark, event.mark_id);
      continue;
    }
    const uint64_t ordinal = event.request->ordinal;
    const std::vector<uint64_t>& of_plan = fsyncs[run.PlanOf(ordinal)];
    if (of_plan.size() >= 2 && ordinal == of_plan[0]) {
      changed.Mark("left out fsync", ordinal);
    } else if (of_plan.size() >= 2 && ordinal < of_plan[0] && event.request->op == Op::kWrite &&
               event.request->content != Content::kData) {
      auto request = std::make_shared<TracedRequest>(*event.request);
      request->dsync = true;
      changed.Add(event.kind, std::move(request), event.result);
    } else {
      changed.Add(event.kind, event.request, event.result);
    }
  }
  return changed;
}

class PowerCutTest : public testing::TestWithParam<PlanForm> {};

INSTANTIATE_TEST_SUITE_P(Forms, PowerCutTest,
                         testing::Values(PlanForm::kChain, PlanForm::kStages, PlanForm::kAuto,
                                         PlanForm::kDurable));

void ExpectNoViolations(RunOptions options, size_t seeds) {
  size_t states = 0;
  size_t durable_plans = 0;
  for (options.seed = 1; options.seed <= seeds; ++options.seed) {
    SCOPED_TRACE(testing::Message() << "seed " << options.seed);
    RandomRun run(options);
    ASSERT_EQ(run.Run(), "");
    EXPECT_EQ(run.has_failed_fsync(), options.fsync_fault);
    if (options.write_faults) {
      EXPECT_GT(run.failed_operations(), 0U);
    }
    const Violations violations = CutPower(run, run.trace(), options.seed);
    ASSERT_EQ(violations.first, "");
    states += violations.states;
    durable_plans += run.durable_plans();
  }
  EXPECT_GT(states, 100 * seeds);
  const bool may_be_durable = options.form == PlanForm::kAuto || options.form == PlanForm::kDurable;
  EXPECT_EQ(durable_plans > 0, may_be_durable);
  testing::Test::RecordProperty("states", static_cast<int>(states));
}

TEST_P(PowerCutTest, KeepsOrderAndPromises) { ExpectNoViolations({.form = GetParam()}, 6); }

TEST_P(PowerCutTest, KeepsOrderAndPromisesWhenWritesFail) {
  ExpectNoViolations({.form = GetParam(), .write_faults = true}, 6);
}

TEST_P(PowerCutTest, KeepsOrderAndPromisesWhenAnFsyncFails) {
  ExpectNoViolations({.form = GetParam(), .write_faults = true, .fsync_fault = true}, 6);
}

TEST_P(PowerCutTest, WritethroughKeepsEachUpdate) {
  ExpectNoViolations({.form = GetParam(), .mode = CacheMode::kWritethrough, .steps = 30}, 5);
}

// What the tests above look for is there to be found when the cache does not do its part: what
// crashes along a few runs show, when each has left the trace that `trace_of` makes of it.
Violations ViolationsIn(RunOptions options,
                        absl::FunctionRef<DiskTrace(const RandomRun& run)> trace_of) {
  Violations all;
  for (options.seed = 1; options.seed <= 3; ++options.seed) {
    RandomRun run(options);
    EXPECT_EQ(run.Run(), "");
    const Violations violations = CutPower(run, trace_of(run), options.seed);
    all.orders += violations.orders;
    all.growths += violations.growths;
    all.promises += violations.promises;
  }
  return all;
}

DiskTrace AsItIs(const RandomRun& run) { return run.trace(); }

TEST_P(PowerCutTest, ControlUndeclaredEdgesAreFound) {
  const Violations all = ViolationsIn({.form = GetParam(), .declare_edges = false}, AsItIs);
  EXPECT_GT(all.orders, 0U);
  EXPECT_EQ(all.promises, 0U);
}

TEST_P(PowerCutTest, ControlUndeclaredDataIsFound) {
  const Violations all = ViolationsIn({.form = GetParam(), .declare_data = false}, AsItIs);
  EXPECT_GT(all.orders, 0U);
  EXPECT_EQ(all.promises, 0U);
}

TEST_P(PowerCutTest, ControlIgnoredFsyncsAreFound) {
  for (const size_t n : {1U, 2U, 5U}) {
    const Violations all = ViolationsIn({.form = GetParam()}, [n](const RandomRun& run) {
      return WithIgnoredFsyncs(run.trace(),
                               [n](size_t fsync, Content) { return (fsync + 1) % n == 0; });
    });
    EXPECT_GT(all.orders, 0U) << n;
    EXPECT_GT(all.promises, 0U) << n;
  }
}

// Data and growth need more than durable writes, and plans that did without are found.
TEST(PowerCutControlTest, DurableFirstStagesWhereMoreIsNeededAreFound) {
  const Violations all = ViolationsIn({.form = PlanForm::kStages}, WithFirstStagesDurable);
  EXPECT_GT(all.orders, 0U);
  EXPECT_GT(all.growths, 0U);
  EXPECT_EQ(all.promises, 0U) << "the last fsync of each plan is there";
}

}  // namespace
}  // namespace ringcow
