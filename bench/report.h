#ifndef RINGCOW_BENCH_REPORT_H_
#define RINGCOW_BENCH_REPORT_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "bench/comparison.h"
#include "bench/presentation.h"
#include "benchmark/benchmark.h"

namespace ringcow {

// The figures of one run, as Google Benchmark's counters (which it prints, writes as JSON, and
// makes medians of).
void SetCounters(const Compared& compared, benchmark::UserCounters& counters);

// Hands the medians of each case's repetitions to presentations.
class RowReporter final : public benchmark::BenchmarkReporter {
 public:
  // `cases` are those that may be run; `presentations` outlive this.
  RowReporter(std::vector<Case> cases, std::vector<Presentation*> presentations)
      : cases_(std::move(cases)), presentations_(std::move(presentations)) {}

  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;
  void Finalize() override;

  // The first failure of a presentation.
  const absl::Status& status() const { return status_; }

 private:
  const std::vector<Case> cases_;
  const std::vector<Presentation*> presentations_;
  absl::Status status_;
};

// Prints a line of a table for each case when it is done.
class RateTable final : public Presentation {
 public:
  explicit RateTable(std::string preamble) : preamble_(std::move(preamble)) {}

  void Begin() override;
  void Add(const Row& row) override;
  absl::Status End() override;

 private:
  const std::string preamble_;
};

}  // namespace ringcow

#endif  // RINGCOW_BENCH_REPORT_H_
