#include "bench/baseline.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace ringcow {
namespace {

// Of one compiler and another, or of one build of a library and another.
constexpr double kInstructionsTolerance = 0.02;
// Of one request at a time, when the file is extended beside it: by then either may be done first.
constexpr double kEntersTolerance = 0.05;

constexpr double kDigits = 1e4;  // four behind the point are kept and compared

double Rounded(double value) { return std::round(value * kDigits) / kDigits; }

std::string Number(double value) {
  std::string text = absl::StrFormat("%.4f", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

absl::string_view WordFor(CostChange::Kind kind) {
  switch (kind) {
    case CostChange::Kind::kWorse:
      return "WORSE";
    case CostChange::Kind::kBetter:
      return "better";
    case CostChange::Kind::kNew:
      return "NOT IN THE BASELINE";
    case CostChange::Kind::kGone:
      return "NO LONGER MEASURED";
  }
  return "";
}

std::string ByHowMuch(const CostChange& change) {
  if (change.kind != CostChange::Kind::kWorse && change.kind != CostChange::Kind::kBetter) {
    return "";
  }
  if (change.before == 0) return absl::StrCat("+", Number(change.after));
  return absl::StrFormat("%+.2f%%", (change.after / change.before - 1) * 100);
}

const double* Find(const Costs& costs, const std::string& scenario, const std::string& count) {
  const auto counts = costs.find(scenario);
  if (counts == costs.end()) return nullptr;
  const auto found = counts->second.find(count);
  return found == counts->second.end() ? nullptr : &found->second;
}

}  // namespace

std::string FormatCosts(const Costs& costs) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [scenario, counts] : costs) {
    for (const auto& [count, value] : counts) json[scenario][count] = Rounded(value);
  }
  return json.dump(2) + "\n";
}

absl::StatusOr<Costs> ParseCosts(absl::string_view json) {
  const auto parsed = nlohmann::json::parse(json.begin(), json.end(), /*callback=*/nullptr,
                                            /*allow_exceptions=*/false);
  if (!parsed.is_object()) return absl::InvalidArgumentError("no JSON object");
  Costs costs;
  for (const auto& [scenario, counts] : parsed.items()) {
    if (!counts.is_object()) {
      return absl::InvalidArgumentError(absl::StrCat("'", scenario, "' is no JSON object"));
    }
    for (const auto& [count, value] : counts.items()) {
      if (!value.is_number()) {
        return absl::InvalidArgumentError(
            absl::StrCat("'", count, "' of '", scenario, "' is no number"));
      }
      costs[scenario][count] = value.get<double>();
    }
  }
  return costs;
}

double ToleranceOf(absl::string_view count) {
  if (absl::StartsWith(count, "instructions")) return kInstructionsTolerance;
  if (absl::StartsWith(count, "enters")) return kEntersTolerance;
  return 0;
}

CostComparison CompareCosts(const Costs& baseline, const Costs& now) {
  using Kind = CostChange::Kind;
  CostComparison comparison;
  for (const auto& [scenario, counts] : now) {
    for (const auto& [count, value] : counts) {
      const double after = Rounded(value);
      const double* const known = Find(baseline, scenario, count);
      if (known == nullptr) {
        comparison.changes.push_back({Kind::kNew, scenario, count, 0, after});
        continue;
      }
      const double before = Rounded(*known);
      const double tolerance = before * ToleranceOf(count);
      if (after > before + tolerance) {
        comparison.changes.push_back({Kind::kWorse, scenario, count, before, after});
      } else if (after < before - tolerance) {
        comparison.changes.push_back({Kind::kBetter, scenario, count, before, after});
      } else {
        ++comparison.unchanged;
      }
    }
  }
  for (const auto& [scenario, counts] : baseline) {
    for (const auto& [count, value] : counts) {
      if (Find(now, scenario, count) != nullptr) continue;
      comparison.changes.push_back({Kind::kGone, scenario, count, Rounded(value), 0});
    }
  }
  return comparison;
}

std::string DescribeChanges(const std::vector<CostChange>& changes) {
  if (changes.empty()) return "";
  std::string text = absl::StrFormat("%-33s %-29s %12s %12s %8s\n", "scenario", "count", "baseline",
                                     "now", "change");
  for (const CostChange& change : changes) {
    const bool had = change.kind != CostChange::Kind::kNew;
    const bool has = change.kind != CostChange::Kind::kGone;
    absl::StrAppendFormat(&text, "%-33s %-29s %12s %12s %8s  %s\n", change.scenario, change.count,
                          had ? Number(change.before) : "-", has ? Number(change.after) : "-",
                          ByHowMuch(change), WordFor(change.kind));
  }
  return text;
}

}  // namespace ringcow
