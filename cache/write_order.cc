#include "cache/write_order.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "engine/invariant.h"

namespace ringcow {

bool WriteOrder::AddEdge(Table& after, Table& before) {
  if (before.durable >= before.changed) return true;
  RINGCOW_INVARIANT(&after != &before, "a table cannot be written before itself");
  if (absl::flat_hash_set<const Table*> seen; WaitsFor(before, after, seen)) return false;
  after.after.erase(std::remove_if(after.after.begin(), after.after.end(),
                                   [this](const OrderEdge& edge) { return IsSatisfied(edge); }),
                    after.after.end());
  for (OrderEdge& edge : after.after) {
    if (edge.before == &before) {
      edge.through = before.changed;
      return true;
    }
  }
  after.after.push_back({&before, before.changed});
  return true;
}

bool WriteOrder::WaitsFor(const Table& table, const Table& other,
                          absl::flat_hash_set<const Table*>& seen) const {
  return std::any_of(table.after.begin(), table.after.end(), [&](const OrderEdge& edge) {
    if (IsSatisfied(edge)) return false;
    if (edge.before == &other) return true;
    return !edge.before->after.empty() && seen.insert(edge.before).second &&
           WaitsFor(*edge.before, other, seen);
  });
}

namespace {

// Numbers the stages of a plan depth first; the edges form no cycle (AddEdge refuses them).
class StageNumbering {
 public:
  explicit StageNumbering(uint64_t last_good_sync) : last_good_sync_(last_good_sync) {}

  size_t StageOf(Table& table) {
    if (const auto known = stages_.find(&table); known != stages_.end()) return known->second;
    size_t stage = table.after_sync > last_good_sync_ ? 1 : 0;
    for (const OrderEdge& edge : table.after) {
      if (edge.before->durable >= edge.through) continue;
      // What is written already waits for one sync only, whatever else is dirty in that table.
      const bool is_written = edge.before->written >= edge.through;
      stage = std::max(stage, is_written ? 1 : StageOf(*edge.before) + 1);
    }
    stages_.emplace(&table, stage);
    return stage;
  }

  const absl::flat_hash_map<Table*, size_t>& stages() const { return stages_; }

 private:
  const uint64_t last_good_sync_;
  absl::flat_hash_map<Table*, size_t> stages_;
};

}  // namespace

std::vector<std::vector<Table*>> WriteOrder::Stages(std::span<Table* const> targets) const {
  StageNumbering numbering(last_good_sync_);
  size_t count = 0;
  for (Table* target : targets) count = std::max(count, numbering.StageOf(*target) + 1);
  std::vector<std::vector<Table*>> stages(count);
  for (const auto& [table, stage] : numbering.stages()) stages[stage].push_back(table);
  for (std::vector<Table*>& stage : stages) {
    std::sort(stage.begin(), stage.end(),
              [](const Table* a, const Table* b) { return a->offset < b->offset; });
  }
  return stages;
}

bool WriteOrder::FirstStageSuffices(std::span<const std::vector<Table*>> stages) const {
  // What an earlier plan has written may be a part of a table in stage 0, or go before one in
  // stage 1.
  if (!unsynced_.empty()) return false;
  return std::none_of(stages[1].begin(), stages[1].end(),
                      [this](const Table* table) { return table->after_sync > last_good_sync_; });
}

void WriteOrder::Written(Table& table, Version through) {
  if (table.written <= table.durable) unsynced_.push_back(&table);
  table.written = through;
  // Syncs that have started may not cover a write that ends only now; a plan announces each of its
  // writes before it announces the sync behind them.
  table.sync_due = syncs_ended_ + 1;
}

void WriteOrder::SyncSucceeded() {
  last_good_sync_ = ++syncs_ended_;
  std::erase_if(unsynced_, [this](Table* table) {
    if (table->sync_due > last_good_sync_) return false;
    table->durable = table->written;
    return true;
  });
}

Version WriteOrder::WrittenDurableThrough() const {
  Version through = clock_;
  for (const Table* table : unsynced_) through = std::min(through, table->durable);
  return through;
}

void WriteOrder::Abandon(Table& table) {
  std::erase(unsynced_, &table);
  table.written = table.durable = table.changed;
  table.after.clear();
  table.after_sync = 0;
  table.abandoned = true;
}

}  // namespace ringcow
