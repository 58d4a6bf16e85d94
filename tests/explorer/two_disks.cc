#include "tests/explorer/two_disks.h"

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/testing/crash_point.h"
#include "tests/explorer/remnant.h"

namespace ringcow {
namespace {

bool Happens(const TraceEvent& event) {
  return (event.kind == TraceEvent::Kind::kStarted || event.kind == TraceEvent::Kind::kApplied) &&
         event.request->op != Op::kFdatasync;
}

// The two disks, on their way through what happened to them.
class TwoPoints {
 public:
  TwoPoints(const TwoTraces& traces, const TwoDisks& prepared, const PromiseOfTwo& promise)
      : traces_(traces),
        promise_(promise),
        first_(traces.first, prepared.first),
        second_(traces.second, prepared.second) {}

  size_t position() const { return first_.position(); }

  // To where something else can be left behind; false at the end.
  bool Advance() {
    const size_t promised = promise_.made(position());
    do {
      if (position() == traces_.first.size()) return false;
      first_.Advance();
      second_.Advance();
    } while (!Happens(traces_.first.events()[position() - 1]) &&
             !Happens(traces_.second.events()[position() - 1]) &&
             promise_.made(position()) == promised);
    return true;
  }

  std::vector<uint64_t> PendingSectors() const {
    std::vector<uint64_t> sectors;
    for (const PendingChange& change : first_.pending()) sectors.push_back(change.sectors());
    for (const PendingChange& change : second_.pending()) sectors.push_back(change.sectors());
    return sectors;
  }

  TwoDisks StateWith(const Remnants& remnants) const {
    return {StateOf(first_, OfFirst(remnants)), StateOf(second_, OfSecond(remnants))};
  }
  std::string DescriptionOf(const Remnants& remnants) const {
    return absl::StrCat("first disk:\n", Describe(first_, OfFirst(remnants)), "second disk:\n",
                        Describe(second_, OfSecond(remnants)));
  }

 private:
  Remnants OfFirst(const Remnants& remnants) const {
    return {remnants.begin(), remnants.begin() + static_cast<ptrdiff_t>(first_.pending().size())};
  }
  Remnants OfSecond(const Remnants& remnants) const {
    return {remnants.begin() + static_cast<ptrdiff_t>(first_.pending().size()), remnants.end()};
  }

  const TwoTraces& traces_;
  const PromiseOfTwo& promise_;
  CrashPoint first_;
  CrashPoint second_;
};

}  // namespace

std::string FirstViolationOfTwo(const TwoTraces& traces, const TwoDisks& prepared,
                                const StateBudget& budget, size_t& states,
                                const PromiseOfTwo& promise) {
  std::mt19937_64 random(1);
  TwoPoints points(traces, prepared, promise);
  absl::flat_hash_set<std::pair<uint64_t, uint64_t>> judged;
  size_t promised = 0;
  std::string violation;
  do {
    const size_t now_promised = promise.made(points.position());
    if (now_promised != promised) judged.clear();
    promised = now_promised;
    ForEachCrash(points.PendingSectors(), budget, random, [&](const Remnants& remnants) {
      const TwoDisks state = points.StateWith(remnants);
      if (!judged.insert({state.first.Fingerprint(), state.second.Fingerprint()}).second) {
        return true;
      }
      ++states;
      violation = promise.judge(state, points.position());
      if (!violation.empty()) {
        violation = absl::StrCat("crash after event ", points.position(), ": ", violation, "\n",
                                 points.DescriptionOf(remnants));
      }
      return violation.empty();
    });
  } while (violation.empty() && points.Advance());
  return violation;
}

}  // namespace ringcow
