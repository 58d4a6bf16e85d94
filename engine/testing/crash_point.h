#ifndef RINGCOW_ENGINE_TESTING_CRASH_POINT_H_
#define RINGCOW_ENGINE_TESTING_CRASH_POINT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "engine/testing/disk_image.h"
#include "engine/testing/disk_trace.h"

namespace ringcow {

// A change that a crash may or may not leave on the disk: what is left of it where nothing later
// is already durable on top of it.
class PendingChange {
 public:
  // The unit that a disk writes whole or not at all.
  static constexpr uint64_t kSectorBytes = 512;

  explicit PendingChange(std::shared_ptr<const TracedRequest> request);

  const TracedRequest& request() const { return *request_; }
  // False while it is under way: it then reached the disk in part, in full, or not at all.
  bool applied() const { return applied_; }
  bool completed() const { return completed_at_.has_value(); }
  // An fsync failed over it: no later fsync makes it durable.
  bool doubtful() const { return doubtful_; }

  // Sectors it touches, counted from that of request().offset: with two or more it can be torn.
  // None for what is done whole or not at all (a size change, a reservation).
  uint64_t sectors() const;

  void ApplyTo(DiskImage& image) const;
  // A torn write: only the sectors for which `reached(n)`, n from 0 to sectors() - 1, are changed.
  // The size becomes what it is after the whole write, even when no sector is reached.
  void ApplyTornTo(DiskImage& image, absl::FunctionRef<bool(uint64_t sector)> reached) const;

 private:
  friend class CrashPoint;

  struct Range {
    uint64_t begin;
    uint64_t end;
  };

  // Narrows to the bytes that were applied, as they were then.
  void SetApplied(std::shared_ptr<const TracedRequest> request, uint64_t bytes);
  // A change applied later is durable.
  void HideBehind(const PendingChange& later);
  void Remove(Range hidden);
  bool IsHidden() const;
  void Change(DiskImage& image, Range range) const;
  void ChangeSize(DiskImage& image) const;

  std::shared_ptr<const TracedRequest> request_;
  std::vector<Range> ranges_;          // what it writes, or zeroes; in order
  uint64_t grows_to_ = 0;              // at least this size afterwards
  std::optional<uint64_t> sets_size_;  // exactly this size afterwards
  bool applied_ = false;
  bool doubtful_ = false;
  std::optional<size_t> completed_at_;  // index of the event
};

// A point in a trace at which the power fails: what is durable there, and what may be.
//
//   CrashPoint point(trace, initial);
//   do {
//     DiskImage state = point.durable();
//     for (const PendingChange& change : point.pending()) {
//       if (this one survives) change.ApplyTo(state);   // in this order
//     }
//     SimDisk disk(loop, {}, state);  ...
//   } while (point.Advance());
//
// The rules: a change is volatile from its start until an fsync that started after it completed has
// completed with success; a dsync write is durable when it completes; what failed without effect is
// gone. When an fsync fails, no later one makes durable what was pending then (Linux reports a lost
// write once); when a dsync write fails, other than for want of space, it may be its fsync that
// failed. Copying a point is cheap.
class CrashPoint {
 public:
  // Before the first event. `trace` must outlive the point and may grow. `initial` is durable.
  explicit CrashPoint(const DiskTrace& trace, DiskImage initial = DiskImage())
      : trace_(&trace), durable_(std::move(initial)) {}

  // Events that have happened before the crash.
  size_t position() const { return position_; }
  // Goes past the next event; false at the end of the trace.
  bool Advance();
  void AdvanceTo(size_t position);

  const DiskImage& durable() const { return durable_; }
  // In the order in which they were applied, then those not yet applied as they started. A state
  // after the crash is durable() with any of them applied on top in this order, each in full or
  // torn.
  std::span<const PendingChange> pending() const { return pending_; }

 private:
  void Start(const TraceEvent& event);
  void Apply(const TraceEvent& event);
  void Complete(const TraceEvent& event);
  void CompleteFsync(size_t started_at, bool succeeded);
  void PutPendingInDoubt();
  // Moves to durable() the pending changes for which covered[i].
  void MakeDurable(const std::vector<bool>& covered);
  std::optional<size_t> Find(uint64_t ordinal) const;

  const DiskTrace* trace_;
  size_t position_ = 0;
  DiskImage durable_;
  std::vector<PendingChange> pending_;
  std::map<uint64_t, size_t> fsyncs_;  // under way: ordinal, and the index of its start
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_TESTING_CRASH_POINT_H_
