#include "tests/explorer/crash_states.h"

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

namespace ringcow {
namespace {

constexpr Remnant kNothing = {Remnant::Kind::kNothing};
constexpr Remnant kAll = {Remnant::Kind::kAll};
constexpr std::array kTears = {Remnant::Kind::kFirstSector, Remnant::Kind::kLastSector,
                               Remnant::Kind::kEvenSectors, Remnant::Kind::kOddSectors,
                               Remnant::Kind::kSomeSectors};
enum class Others : uint8_t { kThere, kGone, kSampled };
constexpr std::array kOthers = {Others::kThere, Others::kGone, Others::kSampled};

class Enumeration {
 public:
  Enumeration(std::vector<uint64_t> sectors, const StateBudget& budget, std::mt19937_64& random,
              absl::FunctionRef<bool(const Remnants&)> visit)
      : sectors_(std::move(sectors)),
        budget_(budget),
        random_(random),
        visit_(visit),
        count_(sectors_.size()) {}

  void Run() {
    const bool few = count_ < 64 && uint64_t{1} << count_ <= budget_.subsets;
    if (few) {
      VisitAllSubsets();
    } else {
      VisitChosenSubsets();
    }
    VisitTorn();
  }

 private:
  void Visit(const Remnants& remnants) { ended_ = ended_ || !visit_(remnants); }

  void VisitAllSubsets() {
    for (uint64_t subset = 0; subset < uint64_t{1} << count_ && !ended_; ++subset) {
      Remnants remnants(count_);
      for (size_t i = 0; i < count_; ++i) remnants[i] = (subset >> i) % 2 == 0 ? kNothing : kAll;
      Visit(remnants);
    }
  }

  void VisitChosenSubsets() {
    Visit(Remnants(count_, kNothing));
    Visit(Remnants(count_, kAll));
    for (size_t i = 0; i < count_ && !ended_; ++i) {
      Remnants alone(count_, kNothing);
      alone[i] = kAll;
      Visit(alone);
      Remnants missing(count_, kAll);
      missing[i] = kNothing;
      Visit(missing);
      Remnants prefix(count_, kNothing);
      for (size_t before = 0; before <= i; ++before) prefix[before] = kAll;
      Visit(prefix);
    }
    for (size_t i = 0; i < budget_.samples && !ended_; ++i) Visit(Sample());
  }

  void VisitTorn() {
    std::vector<size_t> can_be_torn;
    for (size_t i = 0; i < count_; ++i) {
      if (sectors_[i] > 1) can_be_torn.push_back(i);
    }
    const size_t all = can_be_torn.size() * kTears.size() * kOthers.size();
    for (size_t i = 0; i < all && all <= budget_.torn && !ended_; ++i) {
      VisitOneTorn(can_be_torn[i / (kTears.size() * kOthers.size())],
                   kTears[i / kOthers.size() % kTears.size()], kOthers[i % kOthers.size()]);
    }
    for (size_t i = 0; i < budget_.torn && all > budget_.torn && !ended_; ++i) {
      VisitOneTorn(Choose(can_be_torn), Choose(kTears), Choose(kOthers));
    }
  }

  void VisitOneTorn(size_t torn, Remnant::Kind tear, Others others) {
    Remnants remnants = others == Others::kSampled ? Sample()
                                                   : Remnants(count_, others == Others::kThere  //
                                                                          ? kAll
                                                                          : kNothing);
    remnants[torn] = {tear, random_()};
    Visit(remnants);
  }

  // Each one there, gone, or, now and then, torn; with odds that differ from sample to sample.
  Remnants Sample() {
    const uint64_t odds = random_() % 7 + 1;  // of 8
    const bool tears = random_() % 2 == 0;
    Remnants remnants(count_);
    for (size_t i = 0; i < count_; ++i) {
      remnants[i] = random_() % 8 < odds ? kAll : kNothing;
      if (tears && random_() % 4 == 0 && sectors_[i] > 1) {
        remnants[i] = {Choose(kTears), random_()};
      }
    }
    return remnants;
  }

  template <typename List>
  typename List::value_type Choose(const List& list) {
    return list[random_() % list.size()];
  }

  const std::vector<uint64_t> sectors_;  // of each pending change
  const StateBudget& budget_;
  std::mt19937_64& random_;
  const absl::FunctionRef<bool(const Remnants&)> visit_;
  const size_t count_;
  bool ended_ = false;
};

}  // namespace

void ForEachCrash(const CrashPoint& point, const StateBudget& budget, std::mt19937_64& random,
                  absl::FunctionRef<bool(const Remnants& remnants)> visit) {
  std::vector<uint64_t> sectors;
  for (const PendingChange& change : point.pending()) sectors.push_back(change.sectors());
  ForEachCrash(std::move(sectors), budget, random, visit);
}

void ForEachCrash(std::vector<uint64_t> sectors, const StateBudget& budget, std::mt19937_64& random,
                  absl::FunctionRef<bool(const Remnants& remnants)> visit) {
  Enumeration(std::move(sectors), budget, random, visit).Run();
}

}  // namespace ringcow
