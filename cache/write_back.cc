#include "cache/write_back.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/chain.h"
#include "engine/invariant.h"
#include "engine/scope.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

// Of a write by RWF_DSYNC: that it was not tried, or found no room, says nothing about syncing.
bool MayBeFailedSync(int error) {
  return error != ECANCELED && error != ENOSPC && error != EDQUOT && error != EFBIG;
}

}  // namespace

WriteBack::WriteBack(Disk& disk, const WriteBackOptions& options, Disk* data_disk)
    : disk_(disk),
      data_disk_(data_disk),
      options_(options),
      one_plan_(disk.loop()),
      flush_ended_(disk.loop()) {}

void WriteBack::MarkDirty(Table& table, size_t at, size_t length) {
  RINGCOW_INVARIANT(length > 0 && at + length <= table.bytes, "a change lies inside its table");
  // It is durable through all that was changed elsewhere since its last change.
  if (table.is_settled()) table.written = table.durable = order_.now();
  if (!table.is_dirty()) AddDirty(table);
  table.dirty |= table.UnitsOf(at, length);
  table.changed = order_.NextVersion();
}

void WriteBack::AddDirty(Table& table) {
  table.dirty_next = first_dirty_;
  if (first_dirty_ != nullptr) first_dirty_->dirty_previous = &table;
  first_dirty_ = &table;
  ++dirty_tables_;
}

void WriteBack::RemoveDirty(Table& table) {
  (table.dirty_previous != nullptr ? table.dirty_previous->dirty_next : first_dirty_) =
      table.dirty_next;
  if (table.dirty_next != nullptr) table.dirty_next->dirty_previous = table.dirty_previous;
  table.dirty_next = table.dirty_previous = nullptr;
  --dirty_tables_;
}

bool WriteBack::IsForgotten(Content after, std::optional<Content> before) const {
  return options_.forgets_order_for_testing != nullptr &&
         options_.forgets_order_for_testing(after, before);
}

void WriteBack::DependsOnFlush(Table& table) {
  if (!IsForgotten(table.content, std::nullopt)) order_.AfterNextSync(table);
}

Task<absl::Status> WriteBack::SetDependency(Table& after, Table& before) {
  if (IsForgotten(after.content, before.content)) co_return absl::OkStatus();
  if (order_.AddEdge(after, before)) co_return absl::OkStatus();
  // Afterwards `before` is durable as it was here, whatever others have changed meanwhile.
  co_return co_await Flush();
}

Task<absl::Status> WriteBack::EndUpdate() {
  if (options_.mode == CacheMode::kWriteback) co_return absl::OkStatus();
  co_return co_await Flush();
}

Task<absl::Status> WriteBack::Flush() {
  FlushWaiter self;
  flush_waiters_.push_back(&self);
  while (!self.is_done) {
    if (flushing_) {
      co_await flush_ended_.Wait();
      continue;
    }
    flushing_ = true;
    const Mutex::Guard plan_lock = co_await one_plan_.Lock();
    // Everybody who came until here is served by this plan: their changes are in the tables.
    const std::vector<FlushWaiter*> served = std::exchange(flush_waiters_, {});
    const absl::Status status = co_await FlushAll();
    for (FlushWaiter* waiter : served) {
      waiter->result = status;
      waiter->is_done = true;
    }
    flushing_ = false;
    flush_ended_.WakeAll();
  }
  co_return self.result;
}

Task<absl::Status> WriteBack::FlushAll() {
  CO_RETURN_IF_ERROR(failure_);
  std::vector<Table*> dirty;
  dirty.reserve(dirty_tables_);
  for (Table* table = first_dirty_; table != nullptr; table = table->dirty_next) {
    dirty.push_back(table);
  }
  // With nothing dirty and nothing written since the last fsync, all is durable already.
  if (dirty.empty() && disk_.changes() == changes_synced_) {
    if (HasUnsyncedData()) co_return co_await SyncData();
    co_return absl::OkStatus();
  }
  co_return co_await CarryOut(order_.Stages(dirty));
}

Task<absl::Status> WriteBack::WriteOut(std::vector<Table*> tables) {
  const Mutex::Guard plan_lock = co_await one_plan_.Lock();
  CO_RETURN_IF_ERROR(failure_);
  std::erase_if(tables, [](const Table* table) { return table->is_settled(); });
  if (tables.empty()) co_return absl::OkStatus();
  co_return co_await CarryOut(order_.Stages(tables));
}

Task<void> WriteBack::Stop(absl::Status why) {
  if (failure_.ok()) failure_ = std::move(why);
  const Mutex::Guard plan_lock = co_await one_plan_.Lock();
}

Task<void> WriteBack::Abandon(std::vector<Table*> tables) {
  const Mutex::Guard plan_lock = co_await one_plan_.Lock();
  for (Table* table : tables) {
    if (table->is_dirty()) RemoveDirty(*table);
    table->dirty = 0;
    order_.Abandon(*table);
  }
  UpdateDurableThrough();
}

Task<absl::Status> WriteBack::CarryOut(std::vector<std::vector<Table*>> stages) {
  const WritePlan plan(stages, order_.now(), options_.merge_gap);
  const PlanForm form = FormOf(plan, stages);
  TakeOver(plan);
  ++counters_.plans;
  counters_.writes += plan.writes();
  absl::Status status;
  if (HasUnsyncedData()) status = co_await SyncData();
  if (!status.ok()) {
    for (const std::vector<PlannedWrite>& stage : plan.stages()) {
      for (const PlannedWrite& write : stage) HasNotWritten(write);
    }
  } else if (form == PlanForm::kChain) {
    ++counters_.chains;
    status = co_await CarryOutAsChain(plan);
  } else {
    const bool first_durably = form == PlanForm::kDurable;
    if (first_durably) ++counters_.durable;
    status = co_await CarryOutInStages(plan, first_durably);
  }
  UpdateDurableThrough();
  co_return status;
}

PlanForm WriteBack::FormOf(const WritePlan& plan,
                           std::span<const std::vector<Table*>> stages) const {
  const bool is_auto = options_.form == PlanForm::kAuto;
  if ((is_auto || options_.form == PlanForm::kDurable) && MayBeginDurably(plan, stages)) {
    if (!is_auto || plan.stages()[0].size() <= options_.durable_writes) return PlanForm::kDurable;
  }
  if ((is_auto || options_.form == PlanForm::kChain) && FitsIntoChain(plan)) {
    if (!is_auto || plan.writes() <= options_.chain_writes) return PlanForm::kChain;
  }
  return PlanForm::kStages;
}

bool WriteBack::MayBeginDurably(const WritePlan& plan,
                                std::span<const std::vector<Table*>> stages) const {
  const bool is_buffered = disk_.alignment() == 1;
  return stages.size() >= 2 && !plan.stages()[0].empty() && !is_buffered &&
         size_changes_synced_ == disk_.size_changes() && order_.FirstStageSuffices(stages);
}

bool WriteBack::FitsIntoChain(const WritePlan& plan) const {
  // A lone fsync has nothing to be ordered against.
  if (plan.empty()) return false;
  if (plan.writes() + plan.stages().size() > disk_.max_chain()) return false;
  for (const std::vector<PlannedWrite>& stage : plan.stages()) {
    for (const PlannedWrite& write : stage) {
      // Clusters smaller than the device's blocks are written by read-modify-write.
      const uint64_t bits = write.offset.value() | write.bytes.size();
      if ((bits & (disk_.alignment() - 1)) != 0) return false;
    }
  }
  return true;
}

void WriteBack::UpdateDurableThrough() {
  durable_through_ = order_.WrittenDurableThrough();
  for (const Table* table = first_dirty_; table != nullptr; table = table->dirty_next) {
    durable_through_ = std::min(durable_through_, table->durable);
  }
}

// From here on a table's `dirty` holds what changes while the plan is under way.
void WriteBack::TakeOver(const WritePlan& plan) {
  for (const std::vector<PlannedWrite>& writes : plan.stages()) {
    for (const PlannedWrite& write : writes) {
      for (const PlannedWrite::Part& part : write.parts) {
        part.table->in_flight = std::exchange(part.table->dirty, 0);
        RemoveDirty(*part.table);
      }
    }
  }
}

void WriteBack::HasWritten(const PlannedWrite& write, Version through) {
  for (const PlannedWrite::Part& part : write.parts) {
    part.table->in_flight = 0;
    order_.Written(*part.table, through);
  }
}

void WriteBack::HasNotWritten(const PlannedWrite& write) {
  for (const PlannedWrite::Part& part : write.parts) {
    Table& table = *part.table;
    table.in_flight = 0;
    if (!table.is_dirty()) AddDirty(table);
    table.dirty |= part.dirty;
  }
}

Task<absl::Status> WriteBack::CarryOutAsChain(const WritePlan& plan) {
  Chain chain = disk_.NewChain();
  chain.OnLane(options_.chain_lane);
  const uint64_t changes = disk_.changes();
  const uint64_t size_changes = disk_.size_changes();
  for (const std::vector<PlannedWrite>& stage : plan.stages()) {
    for (const PlannedWrite& write : stage) chain.Write(write.offset, write.bytes, write.content);
    chain.Fdatasync();
    order_.SyncStarted();
  }
  const absl::Status status = co_await chain;

  size_t member = 0;
  for (const std::vector<PlannedWrite>& stage : plan.stages()) {
    for (const PlannedWrite& write : stage) {
      if (chain.error(member++) == 0) {
        HasWritten(write, plan.through());
      } else {
        HasNotWritten(write);
      }
    }
    SyncEnded(chain.error(member++));
  }
  // The chain's own writes lie between its syncs: the last sync covers them, and what else had
  // completed before the chain was submitted.
  if (status.ok()) {
    changes_synced_ = std::max(changes_synced_, changes + plan.writes());
    size_changes_synced_ = size_changes;
  }
  co_return status;
}

Task<absl::Status> WriteBack::CarryOutInStages(const WritePlan& plan, bool first_durably) {
  absl::Status status;
  bool durably = first_durably;
  for (const std::vector<PlannedWrite>& stage : plan.stages()) {
    if (!status.ok()) {
      for (const PlannedWrite& write : stage) HasNotWritten(write);
      continue;
    }
    Scope writes(disk_.loop());
    for (const PlannedWrite& write : stage) {
      writes.Spawn(durably ? WriteOneDurably(write, plan.through())
                           : WriteOne(write, plan.through()));
    }
    status = co_await writes.Join();
    if (status.ok() && !durably) status = co_await Sync();
    durably = false;
  }
  // A plan without stages is a guest's flush of data alone.
  if (plan.stages().empty()) status = co_await Sync();
  co_return status;
}

Task<absl::Status> WriteBack::WriteOne(const PlannedWrite& write, Version through) {
  absl::Status status = co_await disk_.Write(write.offset, write.bytes, write.content);
  if (status.ok()) {
    HasWritten(write, through);
  } else {
    HasNotWritten(write);
  }
  co_return status;
}

Task<absl::Status> WriteBack::WriteOneDurably(const PlannedWrite& write, Version through) {
  IoAwaiter io = disk_.WriteDurably(write.offset, write.bytes, write.content);
  absl::Status status = co_await io;
  if (status.ok()) {
    for (const PlannedWrite::Part& part : write.parts) {
      part.table->in_flight = 0;
      order_.WrittenDurably(*part.table, through);
    }
  } else {
    HasNotWritten(write);
    if (MayBeFailedSync(io.error())) Fail(disk_, "a durable write", io.error());
  }
  co_return status;
}

Task<absl::Status> WriteBack::Sync() {
  const uint64_t changes = disk_.changes();
  const uint64_t size_changes = disk_.size_changes();
  order_.SyncStarted();
  IoAwaiter sync = disk_.Fdatasync();
  absl::Status status = co_await sync;
  SyncEnded(sync.error());
  if (status.ok()) {
    changes_synced_ = changes;
    size_changes_synced_ = size_changes;
  }
  co_return status;
}

void WriteBack::SyncEnded(int error) {
  if (error == 0) {
    order_.SyncSucceeded();
    return;
  }
  order_.SyncFailed();
  // A cancelled one was never tried.
  if (error != ECANCELED) Fail(disk_, "fdatasync", error);
}

Task<absl::Status> WriteBack::SyncData() {
  const uint64_t changes = data_disk_->changes();
  IoAwaiter sync = data_disk_->Fdatasync();
  const absl::Status status = co_await sync;
  if (status.ok()) {
    data_changes_synced_ = changes;
  } else if (sync.error() != ECANCELED) {
    Fail(*data_disk_, "fdatasync", sync.error());
  }
  co_return status;
}

void WriteBack::Fail(const Disk& disk, absl::string_view what, int error) {
  if (!failure_.ok()) return;
  failure_ =
      absl::DataLossError(absl::StrCat("'", disk.name(), "': ", what, " failed (errno ", error,
                                       "): what was written since the last good fdatasync may be "
                                       "lost; no more writes are accepted"));
}

}  // namespace ringcow
