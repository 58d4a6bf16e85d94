#ifndef RINGCOW_BENCH_REPORT_H_
#define RINGCOW_BENCH_REPORT_H_

#include <string>
#include <vector>

#include "bench/comparison.h"
#include "benchmark/benchmark.h"

namespace ringcow {

// The figures of one run, as Google Benchmark's counters (which it prints, writes as JSON, and
// makes medians of).
void SetCounters(const Compared& compared, benchmark::UserCounters& counters);

// Prints a line of a table for each case when it is done: medians over its repetitions.
class TableReporter final : public benchmark::BenchmarkReporter {
 public:
  // `preamble` comes before the table, `legend` after it; `cases` are those that may be run.
  TableReporter(std::string preamble, std::vector<Case> cases);

  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;
  void Finalize() override;

 private:
  void PrintRow(const Run& run);

  const std::string preamble_;
  const std::vector<Case> cases_;
};

}  // namespace ringcow

#endif  // RINGCOW_BENCH_REPORT_H_
