#ifndef RINGCOW_CACHE_WRITE_BACK_H_
#define RINGCOW_CACHE_WRITE_BACK_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
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

// How a plan is carried out. kChain: one linked SQE chain, drained at its head, on the metadata
// ring. kStages: each stage's writes in parallel, checked before the fsync and the next stage.
// kAuto takes the chain while it is short, since its writes go one after the other.
enum class PlanForm : uint8_t { kAuto, kChain, kStages };

struct WriteBackOptions {
  CacheMode mode = CacheMode::kWriteback;
  PlanForm form = PlanForm::kAuto;
  // The most writes (after merging neighbours) that kAuto puts into one chain.
  size_t chain_writes = 4;
};

// Writes the changed tables of one image to its disk in an order that keeps the image consistent at
// every instant, and makes flushed data durable. One for all TableCaches of the image; every fsync
// of the image goes through it.
//
// A plan takes copies of the tables as they are when it is made, so that guest writes go on while
// it is under way: a table changed meanwhile would otherwise reach the disk with references whose
// refcounts are not durable. One plan runs at a time.
//
// Errors. A failed, short or cancelled write leaves its table dirty and nothing that depends on it
// written; the next Flush tries again. After a failed fsync nobody knows what of the writes before
// it will survive, and the kernel may report it only once: failure() is set for good, and every
// later Flush fails with it.
class WriteBack {
 public:
  WriteBack(Disk& disk, const WriteBackOptions& options);
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

  // `table` is written only after an fsync that starts from now on.
  void DependsOnFlush(Table& table) { order_.AfterNextSync(table); }

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

  // All changes up to this version, of whichever table, survive a power cut: what they replaced may
  // be reused. Grows when a plan ends, and is now() then unless something has stayed behind.
  Version durable_through() const { return durable_through_; }

  // OK, or why no more writes may be accepted.
  const absl::Status& failure() const { return failure_; }

  Version now() const { return order_.now(); }
  size_t dirty_tables() const { return dirty_tables_; }

 private:
  struct FlushWaiter {
    absl::Status result;
    bool is_done = false;
  };

  Task<absl::Status> FlushAll();
  Task<absl::Status> CarryOut(WritePlan& plan);
  Task<absl::Status> CarryOutAsChain(WritePlan& plan);
  Task<absl::Status> CarryOutInStages(WritePlan& plan);
  Task<absl::Status> WriteOne(const PlannedWrite& write, Version through);
  Task<absl::Status> Sync();

  bool IsChain(const WritePlan& plan) const;
  void TakeOver(WritePlan& plan);
  void HasWritten(const PlannedWrite& write, Version through);
  void HasNotWritten(const PlannedWrite& write);
  void SyncEnded(int error);
  void UpdateDurableThrough();
  void AddDirty(Table& table);
  void RemoveDirty(Table& table);

  Disk& disk_;
  const WriteBackOptions options_;
  WriteOrder order_;
  Table* first_dirty_ = nullptr;
  size_t dirty_tables_ = 0;
  Version durable_through_ = 0;
  uint64_t changes_synced_ = 0;  // Disk::changes() when the last good sync started
  absl::Status failure_;
  Mutex one_plan_;
  std::vector<FlushWaiter*> flush_waiters_;  // of the next plan
  bool flushing_ = false;
  WaitList flush_ended_;
};

}  // namespace ringcow

#endif  // RINGCOW_CACHE_WRITE_BACK_H_
