#ifndef RINGCOW_ENGINE_TESTING_SIM_DISK_H_
#define RINGCOW_ENGINE_TESTING_SIM_DISK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/disk.h"
#include "engine/loop.h"
#include "engine/request.h"
#include "engine/testing/disk_image.h"
#include "engine/testing/disk_trace.h"

namespace ringcow {

// What a simulated disk makes of one request.
struct Fault {
  static constexpr uint64_t kAll = std::numeric_limits<uint64_t>::max();

  int error = 0;            // the errno it fails with; 0: it succeeds
  uint64_t applied = kAll;  // bytes from its beginning that take effect, at most its length
  bool is_hidden = false;   // it says that all of it was done

  static Fault None() { return {}; }
  // Fails; its first `applied` bytes reached the disk all the same (any number but 0: all of what
  // transfers no bytes).
  static Fault Error(int error, uint64_t applied = 0) { return {error, applied}; }
  // Succeeds for the first `bytes` bytes only. Only for reads and writes.
  static Fault Short(uint64_t bytes) { return {0, bytes}; }
  // A lie: the same, but it says that it was done in full.
  static Fault HiddenShort(uint64_t bytes) { return {0, bytes, /*is_hidden=*/true}; }
};

// The seam in memory, for tests: what it does follows from the seed and the requests alone. As with
// io_uring, requests overlap and complete in any order, except as links and drains say:
//   - a chain's member starts when the one before it has completed in full; a failed or short one
//     ends all those behind it with ECANCELED;
//   - a drained chain starts when everything handed over before it on its lane has completed, and
//     what is handed over later on that lane starts when the chain has ended;
//   - lanes do not wait for each other.
// A request takes effect at one instant between its start and its completion, both some turns of
// the loop apart. A read sees what has been applied by then.
//
// Everything but reads is recorded in trace(), from which CrashPoint tells what a power cut could
// leave. Must outlive its requests, and be destroyed before its loop.
class SimDisk final : public Disk, private CompletionSource {
 public:
  // What a disk must not do: with these, tests show that others notice when it happens.
  struct Flaws {
    bool ignores_drains = false;  // a drained chain neither waits nor holds anything back
    bool ignores_errors = false;  // a chain goes on behind a member that failed or was short
    // No flaw by itself: a chain's members before its first fsync start together, unlinked, and the
    // rest is a chain behind them. Only its drain then keeps them in order.
    bool unlinks_first_stage = false;
  };

  struct Options {
    std::string name = "sim";
    uint64_t seed = 1;
    uint32_t alignment = 512;         // bytes, of offsets and lengths
    uint32_t memory_alignment = 512;  // bytes
    size_t max_chain = 64;            // members
    uint32_t latency = 4;             // turns, at most, from start to effect and on to completion
    uint32_t stragglers = 0;          // one request in so many takes much longer; 0: none
    bool record = true;               // false saves copying what is written
    Flaws flaws = {};
  };

  // Decides about each request, in the order in which they are handed over; the ordinal counts
  // from 0. A chain hands over its members together, so those that end up cancelled count too.
  using FaultHook = std::function<Fault(const Request& request, uint64_t ordinal)>;

  // The disk begins with `content`, durable.
  SimDisk(Loop& loop, const Options& options, DiskImage content = DiskImage());
  ~SimDisk() override;

  void SetFaults(FaultHook hook) { faults_ = std::move(hook); }
  // kWriteZeroes, kPunch and kAllocate may be missing: they then fail with EOPNOTSUPP.
  void SetUnsupported(std::set<Op> ops) { unsupported_ = std::move(ops); }
  // No byte can be written at or beyond `bytes`: a write across it is short, one that begins there
  // fails with `error`, as do zeroing, reserving and growing (RLIMIT_FSIZE: EFBIG; a full disk:
  // ENOSPC). A multiple of alignment().
  void SetSizeLimit(uint64_t bytes, int error);

  // The bytes as a read sees them.
  const DiskImage& content() const { return content_; }
  // The bytes that the disk began with.
  const DiskImage& initial() const { return initial_; }
  const DiskTrace& trace() const { return trace_; }
  // Notes in the trace what the scenario knows, such as "the guest's write 7 was acknowledged".
  void Mark(std::string label, uint64_t id = 0);

  // Of two disks on one loop that have done nothing yet: see DiskTrace::ShareTime.
  static void ShareTime(SimDisk& a, SimDisk& b) { DiskTrace::ShareTime(a.trace_, b.trace_); }

  // Requests handed over: the next one's ordinal.
  uint64_t requests() const { return next_ordinal_; }
  // Writes whose memory was not the same at their start and when they took effect. Such a write may
  // put a table on the disk that nobody decided to write.
  uint64_t changed_under_way() const { return changed_under_way_; }

 private:
  // A request as handed over.
  struct Job {
    Request* request;
    uint64_t ordinal;
    Fault fault;
    std::shared_ptr<const TracedRequest> traced = nullptr;
    int64_t result = 0;
  };
  // What starts as one: a request by itself, or a chain.
  struct Unit {
    std::vector<Job> jobs;
    size_t current = 0;
    bool drained = false;
    Lane lane = Lane::kData;
  };
  struct LaneState {
    std::deque<std::shared_ptr<Unit>> waiting;
    size_t running = 0;
    bool draining = false;  // a drained unit is running
  };
  struct Event {
    uint64_t turn;
    uint64_t order;  // among those of a turn, random
    uint64_t sequence;
    bool completes;
    std::shared_ptr<Unit> unit;

    bool operator>(const Event& other) const {
      return std::tie(turn, order, sequence) > std::tie(other.turn, other.order, other.sequence);
    }
  };

  // Disk:
  void Start(Request& request) override;
  void StartChain(Chain& chain) override;
  // CompletionSource:
  void Submit() override;
  void Reap() override;
  size_t outstanding() const override { return outstanding_; }
  void Wait() override;

  Job Accept(Request& request);
  void Enqueue(std::vector<Job> jobs, Lane lane, bool drained);
  void StartWaiting(LaneState& lane);
  void StartCurrent(const std::shared_ptr<Unit>& unit);
  void ApplyCurrent(const std::shared_ptr<Unit>& unit);
  void CompleteCurrent(const std::shared_ptr<Unit>& unit);
  void Cancel(Job& job);
  void Schedule(const std::shared_ptr<Unit>& unit, bool completes);

  // How much of `length` the disk takes, or a negative errno; 1 for what transfers no bytes.
  int64_t Check(const Request& request, uint64_t length) const;
  void Perform(const Request& request, uint64_t length);
  void ReadInto(const Request& request, uint64_t length) const;
  void WriteFrom(const Request& request, uint64_t length);

  // Sets job.traced to the request as it is now.
  void Describe(Job& job) const;
  void RecordStart(Job& job);
  void RecordApplied(Job& job, uint64_t bytes);
  void RecordCompleted(const Job& job);
  LaneState& lane(Lane lane) { return lanes_[static_cast<size_t>(lane)]; }

  const Options options_;
  const DiskImage initial_;
  DiskImage content_;
  DiskTrace trace_;
  FaultHook faults_;
  std::set<Op> unsupported_;
  uint64_t size_limit_ = std::numeric_limits<int64_t>::max();
  int size_limit_error_ = 0;
  uint64_t changed_under_way_ = 0;

  std::mt19937_64 random_;
  uint64_t now_ = 0;  // turns
  uint64_t next_ordinal_ = 0;
  uint64_t next_sequence_ = 0;
  size_t outstanding_ = 0;
  std::array<LaneState, 2> lanes_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_TESTING_SIM_DISK_H_
