#ifndef RINGCOW_BENCH_PRESENTATION_H_
#define RINGCOW_BENCH_PRESENTATION_H_

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "bench/comparison.h"

namespace ringcow {

// What a case came to: medians over its repetitions, by the names of SetCounters.
struct Row {
  Case a_case;
  std::map<std::string, double> figures;

  std::optional<double> Find(const std::string& name) const {
    const auto found = figures.find(name);
    return found == figures.end() ? std::nullopt : std::optional(found->second);
  }
  double At(const std::string& name) const { return Find(name).value_or(0); }
};

// Shows results to somebody, as they come or at the end.
class Presentation {
 public:
  virtual ~Presentation() = default;

  virtual void Begin() {}
  virtual void Add(const Row& row) = 0;
  virtual absl::Status End() { return absl::OkStatus(); }
};

}  // namespace ringcow

#endif  // RINGCOW_BENCH_PRESENTATION_H_
