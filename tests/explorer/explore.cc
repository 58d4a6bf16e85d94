#include "tests/explorer/explore.h"

#include <random>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "engine/testing/crash_point.h"

namespace ringcow {
namespace {

// Whether more can be on the disk after this event than before: completions and fsyncs only take
// possibilities away.
bool AddsStates(const TraceEvent& event) {
  const bool happens =
      event.kind == TraceEvent::Kind::kStarted || event.kind == TraceEvent::Kind::kApplied;
  return happens && event.request->op != Op::kFdatasync;
}

class Walk {
 public:
  Walk(const ScenarioRun& run, const DiskTrace& trace, const ExploreOptions& options)
      : guest_(run.guest()),
        trace_(trace),
        options_(options),
        random_(options.seed),
        judge_(run.scenario(), run.guest()),
        point_(trace, run.disk().initial()) {}

  Exploration Run() {
    bool is_new = true;
    do {
      // A state that was good is good until more is promised.
      const size_t promised = guest_.FlushedBefore(point_.position());
      if (promised != promised_) judged_.clear();
      if (is_new || promised != promised_) {
        ForEachCrash(point_, options_.budget, random_,
                     [this](const Remnants& remnants) { return Visit(remnants); });
      }
      promised_ = promised;
      is_new = point_.position() < trace_.size() && AddsStates(trace_.events()[point_.position()]);
    } while (!is_done() && point_.Advance());
    return std::move(found_);
  }

 private:
  bool is_done() const {
    return found_.states >= options_.max_states ||
           (options_.stop_at_violation && found_.first_violation.has_value());
  }

  bool Visit(const Remnants& remnants) {
    const DiskImage state = StateOf(point_, remnants);
    ++found_.built;
    if (!judged_.insert(state.Fingerprint()).second) return true;
    ++found_.states;
    Verdict verdict = judge_.Of(state, point_.position());
    if (verdict.good() && options_.on_good_state) options_.on_good_state(state, point_.position());
    if (verdict.good() && options_.go_on_every > 0 && found_.states % options_.go_on_every == 0) {
      ++found_.gone_on;
      verdict = judge_.OfGoingOn(state, found_.states);
    }
    found_.Count(verdict.kind);
    if (!verdict.good() && !found_.first_violation.has_value()) {
      found_.first_violation = Violation{point_.position(), remnants, std::move(verdict)};
    }
    return !is_done();
  }

  const StampedGuest& guest_;
  const DiskTrace& trace_;
  const ExploreOptions& options_;
  std::mt19937_64 random_;
  Judge judge_;
  CrashPoint point_;
  size_t promised_ = 0;
  absl::flat_hash_set<uint64_t> judged_;  // fingerprints, since something was promised
  Exploration found_;
};

}  // namespace

Exploration Explore(const ScenarioRun& run, const DiskTrace& trace, const ExploreOptions& options) {
  return Walk(run, trace, options).Run();
}

}  // namespace ringcow
