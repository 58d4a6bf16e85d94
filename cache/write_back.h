#ifndef RINGCOW_CACHE_WRITE_BACK_H_
#define RINGCOW_CACHE_WRITE_BACK_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cache/table.h"
#include "cache/write_order.h"
#include "cache/write_plan.h"
#include "engine/disk.h"
#include "engine/mutex.h"
#include "engine/task.h"
#include "engine/wait_list.h"

namespace ringcow {

// When changed tables reach the disk.
enum class CacheMode : uint8_t {
  kWriteback,     // on Flush, and when the cache needs room
  kWritethrough,  // before each request that changed them is acknowledged
};

// How a plan is carried out.
enum class PlanForm : uint8_t {
  // kDurable where it is allowed and so narrow, else kChain while it is short, else kStages. By
  // default kDurable is never so narrow.
  kAuto,
  kChain,   // one linked SQE chain, drained at its head: its writes go one after the other
  kStages,  // each stage's writes in parallel, checked before the fsync and the next stage
  // As kStages, but the first stage is written by RWF_DSYNC, without an fsync behind it, where that
  // is enough (see WriteBack); elsewhere as kStages.
  kDurable,
};

// The defaults are what was measured to serve best (ARCHITECTURE.md, "The forms of write-back").
struct WriteBackOptions {
  CacheMode mode = CacheMode::kWriteback;
  PlanForm form = PlanForm::kAuto;
  size_t chain_writes = 4;     // the most writes, after merging, that kAuto puts into one chain
  size_t durable_writes = 0;   // the most in the first stage of what kAuto makes kDurable
  uint64_t merge_gap = 32768;  // bytes at most between changes that become one write
  Lane chain_lane = Lane::kMetadata;  // for measurements

  // For tests only: says which orders are not kept, to see that their loss is noticed. `before` is
  // empty for what DependsOnFlush asks for, `after` is kOther for whoever asks IsDurable.
  using ForgetsOrder = bool (*)(Content after, std::optional<Content> before);
  ForgetsOrder forgets_order_for_testing = nullptr;
};

// What became of the plans so far.
struct WriteBackCounters {
  uint64_t plans = 0;
  uint64_t chains = 0;   // of them carried out as kChain...
  uint64_t durable = 0;  // ...and as kDurable; the rest as kStages
  uint64_t writes = 0;   // after merging
};

// Writes the changed tables of one image to its disk in an order that keeps the image consistent at
// every instant, and makes flushed data durable. One for all TableCaches of the image; every fsync
// of the image goes through it.
//
// A plan takes copies of the tables as they are when it is made, so that guest writes go on while
// it is under way: a table changed meanwhile would otherwise reach the disk with references whose
// refcounts are not durable. One plan runs at a time.
//
// The order between tables, and between tables and what DependsOnFlush was called after, is kept
// by whatever means; that there is an fsync between two stages is not promised. RWF_DSYNC makes
// durable the one write that carries it and nothing else. So a first stage written that way needs
// no fsync behind it only if nothing else has to be durable before the second:
//   - no table of the second stage depends on a flush that has not happened;
//   - no table was written by an earlier plan whose fsync failed to come: its sectors may be what
//     the second stage refers to, in a table of which the first stage writes others;
//   - the disk has not changed its size since the last fsync: nobody declares that what tables
//     refer to lies behind the old end, because it is so for every cluster that is new;
//   - the disk is not buffered: there the kernel reports a lost write of anybody's, once, to
//     whoever syncs next, and the guest's flush must not miss it.
// The last stage always ends with an fsync, so a flush covers all that was written before.
//
// What tables refer to may lie on a disk of its own (`data_disk`). Then every plan begins with an
// fsync of that disk, if it has changed since the last one: all that had been written there when
// the plan was made is durable before any table of it. DependsOnFlush is not needed for that. The
// first plan or flush takes it for changed: what it held before may not be durable either.
//
// Errors. A failed, short or cancelled write leaves its table dirty and nothing that depends on it
// written; the next Flush tries again. After a failed fsync nobody knows what of the writes before
// it will survive, and the kernel may report it only once: failure() is set for good, and every
// later Flush fails with it. A write by RWF_DSYNC that fails may be a write or a sync that failed:
// it counts as a failed fsync, unless for want of space, which only a write meets.
class WriteBack {
 public:
  // `data_disk` may be null: what is not a table is on `disk` then, like the tables.
  WriteBack(Disk& disk, const WriteBackOptions& options, Disk* data_disk = nullptr);
  WriteBack(const WriteBack&) = delete;
  WriteBack& operator=(const WriteBack&) = delete;

  CacheMode mode() const { return options_.mode; }
  Disk& disk() { return disk_; }

  // `length` > 0 bytes at `at` of the table were changed, in memory. Declare dependencies first.
  void MarkDirty(Table& table, size_t at, size_t length);

  // `after` is written only when `before`, as it is now, is durable. To be called before `after` is
  // changed, with both pinned until then: a table that left the cache takes its order with it. May
  // flush: when `before` waits for `after` already, the circle is broken by writing.
  Task<absl::Status> SetDependency(Table& after, Table& before);

  // For tests only: see WriteBackOptions.
  bool IsForgotten(Content after, std::optional<Content> before) const;

  // `table` is written only after an fsync that starts from now on.
  void DependsOnFlush(Table& table);

  // All changes made and all disk writes completed before the call are durable afterwards.
  // Concurrent calls share a plan: whoever comes while one is under way joins the next.
  Task<absl::Status> Flush();

  // Writethrough: what Flush does. Writeback: nothing.
  Task<absl::Status> EndUpdate();

  // Makes `tables` durable, with all that must go before them, to make room in a cache. Tables that
  // settled in the meantime are left alone.
  Task<absl::Status> WriteOut(std::vector<Table*> tables);

  // Forgets the changes of `tables`: their clusters are no longer what they were, and writing them
  // later would overwrite what comes next. Nothing must refer to them. Waits for the plan that may
  // be writing one of them.
  Task<void> Abandon(std::vector<Table*> tables);

  // Accepts no more writes, for `why`: failure() says so from now on, and what was not flushed
  // stays unwritten. Waits for the plan that is under way.
  Task<void> Stop(absl::Status why);

  // All changes up to this version, of whichever table, survive a power cut: what they replaced may
  // be reused. Grows when a plan ends, and is now() then unless something has stayed behind.
  Version durable_through() const { return durable_through_; }
  // Whether that holds of a change of `content`.
  bool IsDurable(Version change, Content content) const {
    return change <= durable_through_ || IsForgotten(Content::kOther, content);
  }

  // OK, or why no more writes may be accepted.
  const absl::Status& failure() const { return failure_; }

  Version now() const { return order_.now(); }
  size_t dirty_tables() const { return dirty_tables_; }
  const WriteBackCounters& counters() const { return counters_; }

 private:
  struct FlushWaiter {
    absl::Status result;
    bool is_done = false;
  };

  Task<absl::Status> FlushAll();
  Task<absl::Status> CarryOut(std::vector<std::vector<Table*>> stages);
  Task<absl::Status> CarryOutAsChain(const WritePlan& plan);
  Task<absl::Status> CarryOutInStages(const WritePlan& plan, bool first_durably);
  Task<absl::Status> WriteOne(const PlannedWrite& write, Version through);
  Task<absl::Status> WriteOneDurably(const PlannedWrite& write, Version through);
  Task<absl::Status> Sync();
  bool HasUnsyncedData() const {
    return data_disk_ != nullptr && data_disk_->changes() != data_changes_synced_;
  }
  Task<absl::Status> SyncData();

  PlanForm FormOf(const WritePlan& plan, std::span<const std::vector<Table*>> stages) const;
  bool FitsIntoChain(const WritePlan& plan) const;
  bool MayBeginDurably(const WritePlan& plan, std::span<const std::vector<Table*>> stages) const;
  void TakeOver(const WritePlan& plan);
  void HasWritten(const PlannedWrite& write, Version through);
  void HasNotWritten(const PlannedWrite& write);
  void SyncEnded(int error);
  void Fail(const Disk& disk, absl::string_view what, int error);
  void UpdateDurableThrough();
  void AddDirty(Table& table);
  void RemoveDirty(Table& table);

  Disk& disk_;
  Disk* const data_disk_;
  const WriteBackOptions options_;
  WriteOrder order_;
  Table* first_dirty_ = nullptr;
  size_t dirty_tables_ = 0;
  Version durable_through_ = 0;
  uint64_t changes_synced_ = 0;  // Disk::changes() when the last good sync started...
  std::optional<uint64_t> size_changes_synced_;  // ...and Disk::size_changes()
  std::optional<uint64_t> data_changes_synced_;  // changes() of data_disk_, the same
  WriteBackCounters counters_;
  absl::Status failure_;
  Mutex one_plan_;
  std::vector<FlushWaiter*> flush_waiters_;  // of the next plan
  bool flushing_ = false;
  WaitList flush_ended_;
};

}  // namespace ringcow

#endif  // RINGCOW_CACHE_WRITE_BACK_H_
