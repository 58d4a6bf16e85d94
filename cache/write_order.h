#ifndef RINGCOW_CACHE_WRITE_ORDER_H_
#define RINGCOW_CACHE_WRITE_ORDER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "cache/table.h"

namespace ringcow {

// Which table must be durable before which may be written, and what is durable so far.
//
// Time is counted twice: changes by Version, fsyncs by ordinal (1, 2, ...; at most one fsync of an
// image is under way at a time, or several in one chain, which end in order). An fsync covers what
// had completed before it started.
class WriteOrder {
 public:
  Version NextVersion() { return ++clock_; }
  Version now() const { return clock_; }

  // Adds the edge "`before` with all its changes so far, then `after`". False, and nothing is
  // added, when `before` itself waits for `after`: then the pair is ordered by flushing first.
  // An edge to a durable table is satisfied at once and costs nothing.
  [[nodiscard]] bool AddEdge(Table& after, Table& before);

  // `table` is written only after a sync that starts from here on: what the disk has completed by
  // now (copied data, a grown file) is durable before it.
  void AfterNextSync(Table& table) { table.after_sync = syncs_started_ + 1; }

  // A plan's tables by stage: all of stage i is durable before any of stage i + 1 is written.
  // Stage 0 may be empty (an fsync has to come first). `targets` and every dirty table that must
  // go before one of them are included.
  std::vector<std::vector<Table*>> Stages(std::span<Table* const> targets) const;

  // Whether stage 1 may be written as soon as the writes of stage 0 are durable: whether nothing
  // else in it waits for an fsync. `stages` as Stages gives them, at least two.
  bool FirstStageSuffices(std::span<const std::vector<Table*>> stages) const;

  // Bookkeeping of the one plan under way. Started is told before the disk is.
  void SyncStarted() { ++syncs_started_; }
  void Written(Table& table, Version through);
  // With nothing of the table written before and not yet durable.
  void WrittenDurably(Table& table, Version through) { table.written = table.durable = through; }
  // The oldest sync that was started and has not ended has ended.
  void SyncSucceeded();
  void SyncFailed() { ++syncs_ended_; }

  // The newest version through which all tables are durable, of those that were written.
  Version WrittenDurableThrough() const;

  // Nothing waits for `table` any more, and it waits for nothing.
  void Abandon(Table& table);

 private:
  bool IsSatisfied(const OrderEdge& edge) const { return edge.before->durable >= edge.through; }
  // `seen`: tables whose edges have been followed, so that a dense graph is searched once.
  bool WaitsFor(const Table& table, const Table& other,
                absl::flat_hash_set<const Table*>& seen) const;

  Version clock_ = 0;
  uint64_t syncs_started_ = 0;
  uint64_t syncs_ended_ = 0;
  uint64_t last_good_sync_ = 0;
  std::vector<Table*> unsynced_;  // written, not yet durable
};

}  // namespace ringcow

#endif  // RINGCOW_CACHE_WRITE_ORDER_H_
