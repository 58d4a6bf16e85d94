#ifndef RINGCOW_BENCH_BASELINE_H_
#define RINGCOW_BENCH_BASELINE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ringcow {

// What one operation costs, by scenario and by the name of what is counted. Less is better,
// whichever it is.
using Costs = std::map<std::string, std::map<std::string, double>>;

// As they are kept in a file: JSON, an object of objects of numbers, sorted, in as many digits as
// are compared. Parse: InvalidArgument for anything else.
std::string FormatCosts(const Costs& costs);
absl::StatusOr<Costs> ParseCosts(absl::string_view json);

// By how much a count may differ from run to run without having changed, as a fraction of it. 0 for
// those that repeat exactly.
double ToleranceOf(absl::string_view count);

struct CostChange {
  enum class Kind : uint8_t {
    kWorse,
    kBetter,
    kNew,   // not in the baseline
    kGone,  // only in the baseline
  };

  Kind kind = Kind::kWorse;
  std::string scenario;
  std::string count;
  double before = 0;
  double after = 0;

  // What must not go unnoticed: it costs more, or the baseline does not know.
  bool fails() const { return kind != Kind::kBetter; }
};

struct CostComparison {
  std::vector<CostChange> changes;  // beyond the tolerances
  size_t unchanged = 0;
};

CostComparison CompareCosts(const Costs& baseline, const Costs& now);

// A table of them, a line each: which, from what to what, by how much. Empty for none.
std::string DescribeChanges(const std::vector<CostChange>& changes);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_BASELINE_H_
