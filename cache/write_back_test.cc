#include "cache/write_back.h"

#include <algorithm>
#include <cerrno>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "cache/test_rig.h"
#include "engine/errno_status.h"
#include "engine/scope.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

std::string NameOf(PlanForm form) {
  switch (form) {
    case PlanForm::kAuto:
      return "Auto";
    case PlanForm::kChain:
      return "Chain";
    case PlanForm::kStages:
      return "Stages";
    case PlanForm::kDurable:
      return "Durable";
  }
  return "?";
}

class WriteBackTest : public testing::TestWithParam<PlanForm> {
 protected:
  static WriteBackOptions Options() { return {.form = GetParam()}; }
};

INSTANTIATE_TEST_SUITE_P(Forms, WriteBackTest,
                         testing::Values(PlanForm::kChain, PlanForm::kStages, PlanForm::kAuto,
                                         PlanForm::kDurable),
                         [](const auto& info) { return NameOf(info.param); });

// Which tables must go before which in the scenario below; kData is guest data of a place of its
// own, written before. Tables 13 and 14 are neighbours and written together.
constexpr size_t kData = 20;
constexpr std::pair<size_t, size_t> kEdges[] = {{9, 1}, {9, 5},  {5, 1},    {9, 13},
                                                {3, 9}, {9, 14}, {kData, 5}};
constexpr size_t kTables[] = {1, 3, 5, 9, 11, 13, 14};

// Changes the tables and declares their order; holds their pins.
struct Scenario {
  explicit Scenario(TestRig& rig) : rig(rig) {
    for (size_t n : kTables) pins.emplace_back(n, rig.Get(n));
    // A file that grows needs fsyncs of its own.
    EXPECT_TRUE(rig.WriteData(kData).ok());
    EXPECT_TRUE(rig.Flush().ok());
    rig.disk.ResetCounters();
    begin = rig.disk.trace().size();
    EXPECT_TRUE(rig.WriteData(kData).ok());
    rig.write_back.DependsOnFlush(Pin(5).table());
    for (size_t n : {3, 9, 5, 1, 13, 14, 11}) {
      for (const auto& [before, after] : kEdges) {
        if (after == n && before != kData) {
          EXPECT_TRUE(rig.Order(Pin(after), Pin(before)).ok());
        }
      }
      rig.Change(Pin(n), n % 8, static_cast<int>(n));
    }
  }

  const TablePin& Pin(size_t n) const {
    for (const auto& [place, pin] : pins) {
      if (place == n) return pin;
    }
    ADD_FAILURE() << "no table " << n;
    return pins.front().second;
  }
  void ExpectOrdered() const {
    for (const auto& [before, after] : kEdges) {
      EXPECT_TRUE(IsOrdered(rig.disk.trace(), before, after, begin))
          << before << " before " << after << ":\n"
          << rig.disk.trace().ToString();
    }
  }
  void ExpectAllOnDisk() const {
    for (const auto& [n, pin] : pins) {
      EXPECT_TRUE(pin.table().is_settled()) << n;
      EXPECT_EQ(rig.ValueOnDisk(n, n % 8), static_cast<int>(n));
    }
    EXPECT_EQ(rig.write_back.dirty_tables(), 0U);
  }

  TestRig& rig;
  std::vector<std::pair<size_t, TablePin>> pins;
  size_t begin = 0;  // in the trace
};

// What a flush of the scenario asks of the disk: 6 writes, and as many fsyncs as there are stages,
// less the one that durable writes save.
constexpr uint64_t kWrites = std::size(kTables) - 1;
uint64_t FsyncsOf(PlanForm form) { return form == PlanForm::kDurable ? 3 : 4; }
uint64_t RequestsOf(PlanForm form) { return kWrites + FsyncsOf(form); }

TEST_P(WriteBackTest, FlushWritesEachTableOnceInOrder) {
  TestRig rig(Options());
  const Scenario scenario(rig);
  EXPECT_EQ(rig.writes(), 0U);
  ASSERT_TRUE(rig.Flush().ok());
  scenario.ExpectOrdered();
  scenario.ExpectAllOnDisk();
  EXPECT_EQ(rig.writes(), kWrites) << "13 and 14 are one write";
  EXPECT_EQ(rig.fsyncs(), FsyncsOf(GetParam())) << "3 11, 9, 5 13 14, 1";
  EXPECT_EQ(rig.disk.counters().chains, GetParam() == PlanForm::kChain ? 1U : 0U);
  EXPECT_EQ(rig.disk.changed_under_way(), 0U);
}

// After a flush that failed: what was not written in full is dirty, the rest is not.
void ExpectDirtyIsWhatWasNotWritten(const Scenario& scenario) {
  size_t dirty = 0;
  for (const auto& [n, pin] : scenario.pins) {
    bool is_written = false;
    for (const TraceEvent& event : scenario.rig.disk.trace().events()) {
      is_written |= IsWritten(n, event);
    }
    EXPECT_EQ(pin.table().is_dirty(), !is_written) << n;
    EXPECT_EQ(pin.table().in_flight, 0U) << n;
    dirty += pin.table().is_dirty() ? 1 : 0;
  }
  EXPECT_EQ(scenario.rig.write_back.dirty_tables(), dirty);
}

TEST_P(WriteBackTest, AFaultAtAnyWriteKeepsTheOrderAndARetryWorks) {
  const Fault kFaults[] = {Fault::Error(EIO),    Fault::Error(EIO, 256),
                           Fault::Error(ENOSPC), Fault::Error(EIO, Fault::kAll),
                           Fault::Short(0),      Fault::Error(ECANCELED)};
  for (const Fault& fault : kFaults) {
    size_t failed = 0;
    for (uint64_t n = 0; n < RequestsOf(GetParam()); ++n) {
      SCOPED_TRACE(testing::Message() << "request " << n << " fails with " << fault.error);
      TestRig rig(Options(), 64, {.seed = n + 1});
      const Scenario scenario(rig);
      bool is_fsync = false;
      bool is_durable_write = false;
      const uint64_t failing = rig.disk.requests() + n;
      rig.disk.SetFaults([&](const Request& request, uint64_t i) {
        if (i != failing) return Fault();
        is_fsync = request.op == Op::kFdatasync;
        is_durable_write = request.dsync;
        return is_fsync && fault.error != ECANCELED ? Fault() : fault;
      });
      const absl::Status status = rig.Flush();
      scenario.ExpectOrdered();
      if (is_fsync && fault.error != ECANCELED) {
        EXPECT_TRUE(status.ok());
        continue;
      }
      ++failed;
      EXPECT_EQ(ErrnoOf(status), fault.error == 0 ? EIO : fault.error) << status;
      ExpectDirtyIsWhatWasNotWritten(scenario);
      if (is_durable_write && ErrnoOf(status) == EIO) {
        EXPECT_EQ(rig.Flush(), rig.write_back.failure()) << "it may be its sync that failed";
        continue;
      }
      EXPECT_TRUE(rig.write_back.failure().ok());
      const absl::Status retried = rig.Flush();
      ASSERT_TRUE(retried.ok()) << retried;
      scenario.ExpectOrdered();
      scenario.ExpectAllOnDisk();
    }
    EXPECT_EQ(failed, fault.error == ECANCELED ? RequestsOf(GetParam()) : kWrites);
  }
}

TEST_P(WriteBackTest, AShortWriteIsNeverTakenForAWholeOne) {
  for (uint64_t n = 0; n < RequestsOf(GetParam()); ++n) {
    SCOPED_TRACE(n);
    TestRig rig(Options(), 64, {.seed = n + 1});
    const Scenario scenario(rig);
    // All of each table, so that a write can stop in the middle.
    for (const auto& [place, pin] : scenario.pins) rig.cache.MarkDirty(pin, 0, TestRig::kTable);
    const uint64_t failing = rig.disk.requests() + n;
    rig.disk.SetFaults([&](const Request& request, uint64_t i) {
      return i == failing && request.op == Op::kWrite ? Fault::Short(1024) : Fault();
    });
    const absl::Status status = rig.Flush();
    // A single write goes on from where it stopped; a chain is broken and tried again.
    if (GetParam() != PlanForm::kChain) {
      EXPECT_TRUE(status.ok()) << status;
    }
    ASSERT_TRUE(rig.Flush().ok());
    scenario.ExpectAllOnDisk();
    // A continued write is two in the trace, neither of them whole by the trace's measure.
    if (GetParam() == PlanForm::kChain) scenario.ExpectOrdered();
  }
}

TEST_P(WriteBackTest, AFailedFsyncStopsWritesForGood) {
  size_t failed = 0;
  for (uint64_t n = 0; n < RequestsOf(GetParam()); ++n) {
    for (const int error : {EIO, ENOSPC}) {
      SCOPED_TRACE(n);
      TestRig rig(Options(), 64, {.seed = n + 1});
      const Scenario scenario(rig);
      const uint64_t failing = rig.disk.requests() + n;
      rig.disk.SetFaults([&](const Request& request, uint64_t i) {
        if (i != failing || request.op != Op::kFdatasync) return Fault();
        return Fault::Error(error);
      });
      const absl::Status status = rig.Flush();
      scenario.ExpectOrdered();
      if (status.ok()) continue;
      ++failed;
      EXPECT_EQ(ErrnoOf(status), error) << status;
      ExpectDirtyIsWhatWasNotWritten(scenario);
      EXPECT_EQ(rig.write_back.failure().code(), absl::StatusCode::kDataLoss);

      const uint64_t requests = rig.disk.requests();
      EXPECT_EQ(rig.Flush(), rig.write_back.failure()) << "nothing was forgotten";
      std::vector<Table*> tables;
      tables.reserve(scenario.pins.size());
      for (const auto& [place, pin] : scenario.pins) tables.push_back(&pin.table());
      EXPECT_EQ(rig.loop.Run(rig.write_back.WriteOut(tables)), rig.write_back.failure());
      EXPECT_EQ(rig.disk.requests(), requests) << "nothing more was written";
    }
  }
  EXPECT_EQ(failed, 2 * FsyncsOf(GetParam())) << "each, twice";
}

TEST_P(WriteBackTest, AFullDiskIsUsableAgainWhenThereIsRoom) {
  TestRig rig(Options());
  const TablePin inside = rig.Get(1);
  const TablePin beyond = rig.Get(9);
  const TablePin dependent = rig.Get(2);
  rig.Change(beyond, 0, 9);
  ASSERT_TRUE(rig.Order(dependent, beyond).ok());
  rig.Change(dependent, 0, 2);
  rig.Change(inside, 0, 1);
  rig.disk.SetSizeLimit(TestRig::Place(9).value(), ENOSPC);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(rig.Flush().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_TRUE(beyond.table().is_dirty());
    EXPECT_TRUE(dependent.table().is_dirty());
    EXPECT_FALSE(inside.table().is_dirty());
  }
  EXPECT_EQ(rig.ValueOnDisk(2), 0);
  rig.disk.SetSizeLimit(uint64_t{1} << 40, ENOSPC);
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_TRUE(IsOrdered(rig.disk.trace(), 9, 2));
  EXPECT_EQ(rig.ValueOnDisk(2), 2);
}

TEST_P(WriteBackTest, WritethroughFlushesAtTheEndOfAnUpdateWritebackDoesNot) {
  for (const CacheMode mode : {CacheMode::kWriteback, CacheMode::kWritethrough}) {
    TestRig rig({.mode = mode, .form = GetParam()});
    const TablePin before = rig.Get(2);
    const TablePin after = rig.Get(1);
    rig.Change(before, 0, 1);
    ASSERT_TRUE(rig.Order(after, before).ok());
    rig.Change(after, 0, 1);
    ASSERT_TRUE(rig.loop.Run(rig.write_back.EndUpdate()).ok());
    const bool is_writethrough = mode == CacheMode::kWritethrough;
    EXPECT_EQ(after.table().is_settled(), is_writethrough);
    EXPECT_EQ(rig.fsyncs(), is_writethrough ? 2U : 0U);
    EXPECT_TRUE(IsOrdered(rig.disk.trace(), 2, 1));
  }
}

TEST_P(WriteBackTest, ACircleIsBrokenByAFlush) {
  TestRig rig(Options());
  const TablePin a = rig.Get(1);
  const TablePin b = rig.Get(3);
  rig.Change(a, 0, 1);
  ASSERT_TRUE(rig.Order(b, a).ok());
  rig.Change(b, 0, 1);
  EXPECT_EQ(rig.writes(), 0U);
  ASSERT_TRUE(rig.Order(a, b).ok());
  EXPECT_TRUE(b.table().is_settled());
  EXPECT_TRUE(IsOrdered(rig.disk.trace(), 1, 3));
  rig.Change(b, 1, 2);
  ASSERT_TRUE(rig.Order(a, b).ok());
  rig.Change(a, 1, 2);
  const size_t second = rig.disk.trace().size();
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_TRUE(IsOrdered(rig.disk.trace(), 3, 1, second));

  // The flush that would break it fails: so does the declaration, and nothing is ordered.
  rig.Change(a, 0, 3);
  ASSERT_TRUE(rig.Order(b, a).ok());
  rig.Change(b, 0, 3);
  rig.FailNth(0, Fault::Error(ENOSPC));
  EXPECT_EQ(ErrnoOf(rig.Order(a, b)), ENOSPC);
  EXPECT_TRUE(rig.Flush().ok());
}

Task<absl::Status> FlushAfter(TestRig& rig, int turns) {
  for (int i = 0; i < turns; ++i) co_await rig.loop.Yield();
  co_return co_await rig.write_back.Flush();
}

TEST_P(WriteBackTest, ConcurrentFlushesShareOnePlan) {
  TestRig rig(Options());
  const TablePin first = rig.Get(1);
  const TablePin second = rig.Get(3);
  rig.Change(first, 0, 1);
  Scope scope(rig.loop);
  scope.Spawn(rig.write_back.Flush());
  rig.Change(second, 0, 2);  // too late for the plan under way
  for (int i = 0; i < 20; ++i) scope.Spawn(rig.write_back.Flush());
  ASSERT_TRUE(rig.loop.Run(scope.Join()).ok());
  EXPECT_EQ(rig.fsyncs(), 2U);
  EXPECT_TRUE(first.table().is_settled());
  EXPECT_TRUE(second.table().is_settled());

  rig.Change(first, 0, 1);
  for (int i = 0; i < 20; ++i) scope.Spawn(FlushAfter(rig, i % 3));
  ASSERT_TRUE(rig.loop.Run(scope.Join()).ok());
  EXPECT_EQ(rig.fsyncs(), 3U) << "those who came later found nothing left to do";
}

TEST_P(WriteBackTest, AllWhoShareAPlanLearnThatItFailed) {
  TestRig rig(Options());
  const TablePin first = rig.Get(1);
  const TablePin second = rig.Get(3);
  rig.Change(first, 0, 1);
  rig.disk.SetFaults([](const Request& request, uint64_t) {
    return request.offset == TestRig::Place(3) ? Fault::Error(EIO) : Fault();
  });
  std::vector<int> errors;
  const auto flush = [](TestRig& rig, std::vector<int>& errors) -> Task<absl::Status> {
    errors.push_back(ErrnoOf(co_await rig.write_back.Flush()));
    co_return absl::OkStatus();
  };
  Scope scope(rig.loop);
  scope.Spawn(flush(rig, errors));
  rig.Change(second, 0, 2);
  for (int i = 0; i < 3; ++i) scope.Spawn(flush(rig, errors));
  ASSERT_TRUE(rig.loop.Run(scope.Join()).ok());
  EXPECT_EQ(errors, (std::vector<int>{0, EIO, EIO, EIO}));
}

TEST_P(WriteBackTest, AFlushOfDataAloneIsOneFsyncAndNoneWhenNothingWasWritten) {
  TestRig rig(Options());
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.fsyncs(), 0U);
  ASSERT_TRUE(rig.WriteData(3).ok());
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.fsyncs(), 1U);
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.fsyncs(), 1U);

  const TablePin table = rig.Get(1);
  rig.Change(table, 0, 1);
  ASSERT_TRUE(rig.Flush().ok());
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.fsyncs(), 2U) << "the plan's own writes are not new";
}

TEST_P(WriteBackTest, DataThatCompletesDuringAFlushIsDurableAfterTheNext) {
  for (uint64_t seed = 1; seed < 30; ++seed) {
    TestRig rig(Options(), 64, {.seed = seed});
    const TablePin table = rig.Get(1);
    rig.Change(table, 0, 1);
    const auto write = [](TestRig& rig) -> Task<absl::Status> {
      AlignedBuffer data(TestRig::kTable);
      std::fill_n(data.data(), data.size(), std::byte{1});
      co_return co_await rig.disk.Write(TestRig::Place(kData), data.span());
    };
    Scope scope(rig.loop);
    scope.Spawn(rig.write_back.Flush());
    scope.Spawn(write(rig));
    ASSERT_TRUE(rig.loop.Run(scope.Join()).ok());
    ASSERT_TRUE(rig.Flush().ok());
    EXPECT_TRUE(IsDurable(rig.disk.trace(), kData)) << "seed " << seed;
  }
}

// What the disk was given before the WriteBack was made may not be durable either.
TEST_P(WriteBackTest, AFlushCoversWritesFromBeforeTheWriteBackWasMade) {
  TestRig rig(Options());
  ASSERT_TRUE(rig.WriteData(3).ok());
  WriteBack later(rig.disk, Options());
  ASSERT_TRUE(rig.loop.Run(later.Flush()).ok());
  EXPECT_EQ(rig.fsyncs(), 1U);
}

// A table changed while a plan is under way does not reach the disk with it, whenever it changes.
TEST_P(WriteBackTest, ChangesDuringAPlanWaitForTheNextAndKeepTheirOrder) {
  for (uint64_t seed = 1; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    TestRig rig(Options(), 64, {.seed = seed});
    const TablePin before = rig.Get(9);
    const TablePin after = rig.Get(1);
    const TablePin first = rig.Get(5);
    rig.Change(first, 0, 1);
    ASSERT_TRUE(rig.Order(after, first).ok());
    rig.Change(after, 0, 1);
    Scope scope(rig.loop);
    scope.Spawn(rig.write_back.Flush());
    const auto update = [](TestRig& rig, const TablePin& before, const TablePin& after,
                           uint64_t turns) -> Task<absl::Status> {
      for (uint64_t i = 0; i < turns; ++i) co_await rig.loop.Yield();
      rig.Change(before, 0, 7);
      const absl::Status ordered =
          co_await rig.write_back.SetDependency(after.table(), before.table());
      rig.Change(after, 0, 7);
      co_return ordered;
    };
    scope.Spawn(update(rig, before, after, seed % 20));
    ASSERT_TRUE(rig.loop.Run(scope.Join()).ok());
    EXPECT_EQ(rig.disk.changed_under_way(), 0U);
    if (after.table().is_dirty()) {
      EXPECT_EQ(rig.ValueOnDisk(1), 1);
    }
    const size_t second = rig.disk.trace().size();
    ASSERT_TRUE(rig.Flush().ok());
    EXPECT_EQ(rig.ValueOnDisk(1), 7);
    EXPECT_EQ(rig.ValueOnDisk(9), 7);
    EXPECT_TRUE(IsOrdered(rig.disk.trace(), 9, 1, second)) << rig.disk.trace().ToString();
  }
}

// The syncs of a plan under way may have started before the data was there.
TEST_P(WriteBackTest, DependsOnFlushDuringAPlanWaitsForALaterSync) {
  for (uint64_t seed = 1; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    TestRig rig(Options(), 64, {.seed = seed});
    const TablePin other = rig.Get(9);
    const TablePin table = rig.Get(1);
    rig.Change(other, 0, 1);
    Scope scope(rig.loop);
    scope.Spawn(rig.write_back.Flush());
    const auto copy_on_write = [](TestRig& rig, const TablePin& table) -> Task<absl::Status> {
      const AlignedBuffer data(TestRig::kTable);
      std::fill_n(data.data(), data.size(), std::byte{1});
      const absl::Status status = co_await rig.disk.Write(TestRig::Place(kData), data.span());
      rig.write_back.DependsOnFlush(table.table());
      rig.Change(table, 0, 1);
      co_return status;
    };
    scope.Spawn(copy_on_write(rig, table));
    ASSERT_TRUE(rig.loop.Run(scope.Join()).ok());
    ASSERT_TRUE(rig.Flush().ok());
    EXPECT_TRUE(IsOrdered(rig.disk.trace(), kData, 1)) << rig.disk.trace().ToString();
    EXPECT_EQ(rig.ValueOnDisk(1), 1);
  }
}

TEST_P(WriteBackTest, DurableThroughIsTheOldestChangeThatAPowerCutCouldTake) {
  TestRig rig(Options());
  const TablePin a = rig.Get(1);
  const TablePin b = rig.Get(3);
  const TablePin c = rig.Get(5);
  rig.Change(a, 0, 1);
  const Version of_a = rig.write_back.now();
  rig.Change(b, 0, 1);
  EXPECT_EQ(rig.write_back.durable_through(), 0U);
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.write_back.durable_through(), rig.write_back.now());
  EXPECT_GT(rig.write_back.durable_through(), of_a);

  // Writing out what is newer, for eviction, does not reach past what is older.
  rig.Change(a, 0, 2);
  const Version before_b = rig.write_back.now();
  rig.Change(b, 0, 2);
  rig.Change(c, 0, 2);
  EXPECT_EQ(rig.write_back.durable_through(), before_b - 1);
  ASSERT_TRUE(rig.loop.Run(rig.write_back.WriteOut({&c.table()})).ok());
  EXPECT_EQ(rig.write_back.durable_through(), before_b - 1);
  ASSERT_TRUE(rig.loop.Run(rig.write_back.WriteOut({&a.table()})).ok());
  EXPECT_EQ(rig.write_back.durable_through(), before_b) << "b is what is left";
  rig.loop.Run(rig.write_back.Abandon({&b.table()}));
  EXPECT_EQ(rig.write_back.durable_through(), rig.write_back.now());
}

TEST_P(WriteBackTest, DurableThroughStaysBehindWhatFailed) {
  for (uint64_t n = 0; n < RequestsOf(GetParam()); ++n) {
    for (const int error : {EIO, ECANCELED}) {
      SCOPED_TRACE(testing::Message() << "request " << n << " fails with " << error);
      TestRig rig(Options(), 64, {.seed = n + 1});
      ASSERT_TRUE(rig.Flush().ok());
      const Version before = rig.write_back.now();
      const Scenario scenario(rig);
      rig.FailNth(n, Fault::Error(error));
      ASSERT_FALSE(rig.Flush().ok());
      Version expected = rig.write_back.now();
      for (const auto& [place, pin] : scenario.pins) {
        if (!IsDurable(rig.disk.trace(), place)) {
          expected = std::min(expected, pin.table().changed - 1);
        }
      }
      EXPECT_GE(rig.write_back.durable_through(), before);
      EXPECT_EQ(rig.write_back.durable_through(), expected);
      if (!rig.write_back.failure().ok()) continue;
      ASSERT_TRUE(rig.Flush().ok());
      EXPECT_EQ(rig.write_back.durable_through(), rig.write_back.now());
    }
  }
}

// A change made while a plan is under way is not one of those that the plan makes durable.
TEST_P(WriteBackTest, DurableThroughDoesNotCountChangesMadeDuringThePlan) {
  for (uint64_t seed = 1; seed < 30; ++seed) {
    TestRig rig(Options(), 64, {.seed = seed});
    const TablePin a = rig.Get(1);
    const TablePin b = rig.Get(3);
    rig.Change(a, 0, 1);
    const Version planned = rig.write_back.now();
    Scope scope(rig.loop);
    scope.Spawn(rig.write_back.Flush());
    const auto change = [](TestRig& rig, const TablePin& table,
                           uint64_t turns) -> Task<absl::Status> {
      for (uint64_t i = 0; i < turns; ++i) co_await rig.loop.Yield();
      rig.Change(table, 0, 2);
      co_return absl::OkStatus();
    };
    scope.Spawn(change(rig, seed % 2 == 0 ? a : b, seed % 5));
    ASSERT_TRUE(rig.loop.Run(scope.Join()).ok());
    EXPECT_EQ(rig.write_back.durable_through(), planned) << "seed " << seed;
  }
}

TEST_P(WriteBackTest, AnAbandonedTableIsNeverWritten) {
  TestRig rig(Options());
  TablePin table = rig.Get(1);
  rig.Change(rig.Get(3), 0, 3);
  rig.Change(table, 0, 1);
  rig.loop.Run(rig.write_back.Abandon({&table.table()}));
  EXPECT_TRUE(table.table().is_settled());
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.ValueOnDisk(1), 0);
  EXPECT_EQ(rig.ValueOnDisk(3), 3);
}

TEST(WriteBackFormTest, AutoTakesTheChainWhileItIsShort) {
  for (const size_t tables : {1, 3, 4}) {
    TestRig rig({.form = PlanForm::kAuto, .chain_writes = 3, .merge_gap = 0});
    for (size_t i = 0; i < tables; ++i) rig.Change(rig.Get(2 * i), 0, 1);
    ASSERT_TRUE(rig.Flush().ok());
    EXPECT_EQ(rig.disk.counters().chains, tables <= 3 ? 1U : 0U);
    EXPECT_EQ(rig.disk.counters().drains, rig.disk.counters().chains);
  }
}

TEST(WriteBackFormTest, AChainThatTheRingCannotHoldIsCarriedOutInStages) {
  for (const size_t tables : {3, 4}) {
    TestRig rig({.form = PlanForm::kChain}, 64, {.max_chain = 4});
    for (size_t i = 0; i < tables; ++i) rig.Change(rig.Get(2 * i), 0, 1);
    ASSERT_TRUE(rig.Flush().ok());
    EXPECT_EQ(rig.disk.counters().chains, tables == 3 ? 1U : 0U);
  }
}

TEST(WriteBackFormTest, MemoryMayNeedMoreAlignmentThanOffsets) {
  TestRig rig({.form = PlanForm::kChain}, 64, {.alignment = 512, .memory_alignment = 4096});
  for (size_t i = 0; i < 3; ++i) rig.Change(rig.Get(2 * i), 1, 1);
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.disk.counters().chains, 1U);
}

// Two tables in order, the file long since at its size: a flush begins with a durable write.
struct DurableRig : TestRig {
  explicit DurableRig(const WriteBackOptions& options = {.form = PlanForm::kDurable},
                      const SimDisk::Options& disk_options = {})
      : TestRig(options, 64, disk_options) {
    EXPECT_TRUE(WriteData(kData).ok());
    EXPECT_TRUE(Flush().ok());
    disk.ResetCounters();
    begin = disk.trace().size();
  }
  void ChangeBoth(size_t sector) {
    Change(before, sector, 1);
    EXPECT_TRUE(Order(after, before).ok());
    Change(after, sector, 1);
  }
  uint64_t durable_plans() const { return write_back.counters().durable; }

  const TablePin before = Get(9);
  const TablePin after = Get(1);
  size_t begin = 0;  // in the trace
};

TEST(DurableWriteTest, SavesTheFsyncBehindTheFirstStage) {
  for (const PlanForm form : {PlanForm::kDurable, PlanForm::kAuto}) {
    DurableRig rig({.form = form, .durable_writes = 1});
    for (size_t sector = 0; sector < 4; ++sector) {
      rig.ChangeBoth(sector);
      ASSERT_TRUE(rig.Flush().ok());
    }
    EXPECT_EQ(rig.durable_plans(), 4U);
    EXPECT_EQ(rig.fsyncs(), 4U) << "one at each end";
    EXPECT_TRUE(IsOrdered(rig.disk.trace(), 9, 1));
    EXPECT_TRUE(rig.before.table().is_settled());
    EXPECT_EQ(rig.write_back.durable_through(), rig.write_back.now());
  }
}

TEST(DurableWriteTest, TheLastFsyncCoversTheGuestsData) {
  DurableRig rig;
  rig.ChangeBoth(0);
  ASSERT_TRUE(rig.WriteData(kData).ok());
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.durable_plans(), 1U);
  DurabilityOf data(kData);
  for (size_t i = rig.begin; i < rig.disk.trace().size(); ++i) {
    data.See(rig.disk.trace().events()[i]);
  }
  EXPECT_TRUE(data.is_durable());
}

TEST(DurableWriteTest, DataThatMustGoBeforeTheSecondStageNeedsTheFsync) {
  DurableRig rig;
  rig.ChangeBoth(0);
  ASSERT_TRUE(rig.WriteData(kData).ok());
  rig.write_back.DependsOnFlush(rig.after.table());
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.durable_plans(), 0U);
  EXPECT_TRUE(IsOrdered(rig.disk.trace(), kData, 1, rig.begin));
  EXPECT_TRUE(IsOrdered(rig.disk.trace(), 9, 1));
}

// The control to the one above: what is not declared is not covered, and the trace shows it.
TEST(DurableWriteTest, ControlADurableWriteCoversNothingElse) {
  DurableRig rig;
  rig.ChangeBoth(0);
  ASSERT_TRUE(rig.WriteData(kData).ok());
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.durable_plans(), 1U);
  EXPECT_FALSE(IsOrdered(rig.disk.trace(), kData, 1, rig.begin));
}

TEST(DurableWriteTest, DataThatMustGoBeforeTheThirdStageHasTheFsyncBehindTheSecond) {
  DurableRig rig;
  rig.ChangeBoth(0);
  const TablePin last = rig.Get(5);
  ASSERT_TRUE(rig.WriteData(kData).ok());
  rig.write_back.DependsOnFlush(last.table());
  ASSERT_TRUE(rig.Order(last, rig.after).ok());
  rig.Change(last, 0, 1);
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.durable_plans(), 1U);
  EXPECT_EQ(rig.fsyncs(), 2U);
  EXPECT_TRUE(IsOrdered(rig.disk.trace(), kData, 5, rig.begin));
  EXPECT_TRUE(IsOrdered(rig.disk.trace(), 9, 1));
  EXPECT_TRUE(IsOrdered(rig.disk.trace(), 1, 5));
}

TEST(DurableWriteTest, AFileThatHasGrownNeedsTheFsync) {
  DurableRig rig;
  const auto grow = [](Disk& disk) -> Task<absl::Status> {
    co_return co_await disk.Allocate(HostOffset(disk.size()), 64 * TestRig::kTable);
  };
  ASSERT_TRUE(rig.loop.Run(grow(rig.disk)).ok());
  for (size_t i = 0; i < 2; ++i) {
    rig.ChangeBoth(i);
    ASSERT_TRUE(rig.Flush().ok());
    EXPECT_EQ(rig.durable_plans(), i) << "the first has made the growth durable";
    EXPECT_EQ(rig.fsyncs(), 2 + i);
  }
}

TEST(DurableWriteTest, TheFirstPlanOfAllNeedsTheFsync) {
  TestRig rig({.form = PlanForm::kDurable});
  const TablePin before = rig.Get(9);
  const TablePin after = rig.Get(1);
  rig.Change(before, 0, 1);
  ASSERT_TRUE(rig.Order(after, before).ok());
  rig.Change(after, 0, 1);
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.write_back.counters().durable, 0U) << "nobody knows how durable the size is";
}

// A table in the first stage of which another sector was written before, but not synced.
TEST(DurableWriteTest, WhatAFailedPlanHasWrittenNeedsTheFsync) {
  DurableRig rig;
  rig.ChangeBoth(0);
  rig.FailNth(2, Fault::Error(ECANCELED));
  EXPECT_FALSE(rig.Flush().ok());
  EXPECT_EQ(rig.durable_plans(), 1U);
  ASSERT_FALSE(rig.after.table().is_dirty());
  ASSERT_FALSE(rig.after.table().is_settled());

  const TablePin last = rig.Get(5);
  rig.Change(rig.after, 3, 1);
  ASSERT_TRUE(rig.Order(last, rig.after).ok());
  rig.Change(last, 0, 1);
  const uint64_t fsyncs = rig.fsyncs();
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.durable_plans(), 1U);
  EXPECT_EQ(rig.fsyncs(), fsyncs + 2);
}

TEST(DurableWriteTest, AutoTakesItWhileTheFirstStageIsNarrow) {
  for (const size_t width : {1, 2, 3}) {
    DurableRig rig({.form = PlanForm::kAuto, .durable_writes = 2, .merge_gap = 0});
    rig.ChangeBoth(0);
    for (size_t i = 1; i < width; ++i) rig.Change(rig.Get(9 + 2 * i), 0, 1);
    ASSERT_TRUE(rig.Flush().ok());
    EXPECT_EQ(rig.durable_plans(), width <= 2 ? 1U : 0U);
  }
}

// There the kernel tells of lost writes to whoever syncs first.
TEST(DurableWriteTest, ABufferedDiskHasNone) {
  DurableRig rig({.form = PlanForm::kDurable}, {.alignment = 1});
  rig.ChangeBoth(0);
  ASSERT_TRUE(rig.Flush().ok());
  EXPECT_EQ(rig.durable_plans(), 0U);
}

TEST(DurableWriteTest, AFailureCountsAsAFailedFsyncUnlessThereWasNoRoom) {
  for (const int error : {ENOSPC, EDQUOT, EIO}) {
    DurableRig rig;
    rig.ChangeBoth(0);
    rig.FailNth(0, Fault::Error(error));
    EXPECT_EQ(ErrnoOf(rig.Flush()), error);
    EXPECT_TRUE(rig.before.table().is_dirty());
    EXPECT_TRUE(rig.after.table().is_dirty());
    EXPECT_EQ(rig.writes(), 1U) << "nothing that depends on it";
    EXPECT_EQ(rig.Flush().code(),
              error == EIO ? absl::StatusCode::kDataLoss : absl::StatusCode::kOk);
    EXPECT_EQ(rig.ValueOnDisk(1), error == EIO ? 0 : 1);
  }
}

TEST(WriteBackFormTest, ConcurrentUpdatesInWritethroughShareCommits) {
  TestRig rig({.mode = CacheMode::kWritethrough});
  constexpr size_t kUpdates = 20;
  std::vector<TablePin> pins;
  for (size_t n = 0; n < kUpdates; ++n) pins.push_back(rig.Get(n));
  Scope scope(rig.loop);
  for (const TablePin& pin : pins) {
    rig.Change(pin, 0, 1);
    scope.Spawn(rig.write_back.EndUpdate());
  }
  ASSERT_TRUE(rig.loop.Run(scope.Join()).ok());
  for (const TablePin& pin : pins) EXPECT_TRUE(pin.table().is_settled());
  EXPECT_EQ(rig.fsyncs(), 2U) << "the first's own, and one for all who came while it was under way";
}

TEST(WriteBackErrorTest, AStatusNamesTheKindOfTableAndItsPlace) {
  for (const PlanForm form : {PlanForm::kChain, PlanForm::kStages, PlanForm::kDurable}) {
    DurableRig rig({.form = form});
    rig.ChangeBoth(2);
    rig.FailNth(0, Fault::Error(ENOSPC));
    const absl::Status status = rig.Flush();
    EXPECT_NE(status.message().find("write of 512 bytes at host offset 0x9400 (L2 table) of 'sim'"),
              absl::string_view::npos)
        << status;
  }
}

// Tables smaller than a block of the device: each write reads and writes the whole block.
TEST(WriteBackFormTest, TablesSmallerThanABlockAreWrittenWithoutHarmToTheirNeighbours) {
  Loop loop;
  SimDisk disk(loop, {.alignment = 4096});
  WriteBack write_back(disk, {.form = PlanForm::kChain});
  TableCache cache(write_back, {.content = Content::kL2, .table_bytes = 512, .tables = 8});
  for (size_t n : {0, 2, 5}) {
    const TablePin pin = *loop.Run(cache.GetEmpty(HostOffset(n * 512)));
    pin.bytes()[0] = static_cast<std::byte>(n + 1);
    cache.MarkDirty(pin, 0, 1);
  }
  ASSERT_TRUE(loop.Run(write_back.Flush()).ok());
  for (size_t n : {0, 2, 5}) {
    std::byte value{};
    disk.content().Read(n * 512, {&value, 1});
    EXPECT_EQ(value, static_cast<std::byte>(n + 1));
  }
  EXPECT_EQ(disk.counters().chains, 0U);
}

}  // namespace
}  // namespace ringcow
