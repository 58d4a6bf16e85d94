#ifndef RINGCOW_BENCH_TARGETS_H_
#define RINGCOW_BENCH_TARGETS_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bench/catalog.h"
#include "bench/presentation.h"

namespace ringcow {

// The rates that ringcow is made to reach on a file system in memory, as multiples of others'.
struct Target {
  std::string workload;
  uint32_t depth = 1;
  double vs_qemu = 0;
  std::optional<double> vs_raw;
};
std::vector<Target> Targets();

// A case for each of them.
std::vector<Case> TargetCases(const CatalogOptions& options);

// Prints what was reached beside the targets, and then the counts that have targets. It only tells.
class TargetTable final : public Presentation {
 public:
  explicit TargetTable(std::string preamble) : preamble_(std::move(preamble)) {}

  void Begin() override;
  void Add(const Row& row) override;
  absl::Status End() override;

 private:
  const std::string preamble_;
  std::vector<Row> rows_;
};

// One line for each count that has a target.
struct CountTarget {
  std::string what;
  double at_most = 0;
  double reached = 0;
  double slack = 0;  // what pools and caches cost once, and what is durable only at the start

  bool is_met() const { return reached <= at_most + slack; }
};
std::vector<CountTarget> CountTargets(const std::vector<Row>& rows);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_TARGETS_H_
