#include "bench/report.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/costs.h"
#include "bench/description.h"

namespace ringcow {
namespace {

constexpr char kHeadings[] =
    "                                       per second       latency in us         times"
    "          per operation\n"
    "workload               QD mode       ops    MB     p50     p99   p99.9    raw   QEMU"
    "   SQEs enters fsyncs  meta B  data B\n";

constexpr char kLegend[] = R"(
Measured from the first request to the last completion, with the flushes of the workload, without
opening, closing and the flush of the close. Medians of the repetitions.
mode    wb: metadata is written on flush. wt: each write is durable when it ends (so raw flushes
        each too, and QEMU has -t directsync).
raw     ops against the same requests on a raw file through the same engine: fallocated where the
        image is fresh, else written before. Where each write has to copy the rest of its cluster,
        so does the raw file's.
QEMU    ops against qemu-img bench -t none, the better of io_uring and native; its images fresh
        too. "-": not asked for (--vs-qemu), or it cannot make these requests.
meta B  header, refcount, L1 and L2 bytes, read and written. data B: all other.
flush:1 its latency includes the flush.
)";

double Microseconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

double Fraction(uint64_t amount, uint64_t operations) {
  return static_cast<double>(amount) / static_cast<double>(std::max<uint64_t>(operations, 1));
}

void SetTraffic(const Measured& ours, benchmark::UserCounters& counters) {
  const uint64_t operations = ours.run.requests;
  const DiskCounters& disk = ours.disk;
  for (const auto& [name, cost] : CostsPerOp(ours)) counters[name] = cost;
  counters["chains_per_op"] = Fraction(disk.chains, operations);
  counters["steady_heap_allocations_per_op"] =
      Fraction(ours.run.steady_heap_allocations, operations / 2);
  counters["bounced_per_op"] = Fraction(disk.bounced, operations);
  if (ours.run.flushes > 0) {
    counters["fsyncs_per_flush"] = Fraction(disk.fsyncs, ours.run.flushes);
    counters["metadata_written_bytes_per_flush"] =
        Fraction(disk.MetadataBytesWritten(), ours.run.flushes);
  }
}

std::string Ratio(std::optional<double> ratio) {
  if (!ratio.has_value()) return "-";
  return *ratio < 9.95 ? absl::StrFormat("%.2f", *ratio) : absl::StrFormat("%.1f", *ratio);
}

// Few figures, as many as matter.
std::string PerOp(double value) {
  if (value == 0) return "0";
  if (value < 0.001) return "<.001";
  return value < 9.995 ? absl::StrFormat("%.3f", value) : absl::StrFormat("%.1f", value);
}

}  // namespace

void SetCounters(const Compared& compared, benchmark::UserCounters& counters) {
  const RunResult& run = compared.ours.run;
  counters["requests"] = static_cast<double>(run.requests);
  counters["iops"] = run.iops();
  counters["mb_per_s"] = static_cast<double>(run.bytes) / run.seconds() / 1e6;
  counters["p50_us"] = Microseconds(run.latency.Percentile(50));
  counters["p99_us"] = Microseconds(run.latency.Percentile(99));
  counters["p999_us"] = Microseconds(run.latency.Percentile(99.9));
  counters["max_us"] = Microseconds(run.latency.max());
  counters["raw_iops"] = compared.raw.run.iops();
  counters["raw_p50_us"] = Microseconds(compared.raw.run.latency.Percentile(50));
  counters["raw_p99_us"] = Microseconds(compared.raw.run.latency.Percentile(99));
  counters["raw_p999_us"] = Microseconds(compared.raw.run.latency.Percentile(99.9));
  counters["vs_raw"] = run.iops() / compared.raw.run.iops();
  if (compared.qemu_io_uring.has_value()) {
    counters["qemu_io_uring_iops"] = *compared.qemu_io_uring;
  }
  if (compared.qemu_native.has_value()) counters["qemu_native_iops"] = *compared.qemu_native;
  if (const std::optional<double> best = compared.qemu_best(); best.has_value()) {
    counters["vs_qemu"] = run.iops() / *best;
    counters["raw_vs_qemu"] = compared.raw.run.iops() / *best;
  }
  SetTraffic(compared.ours, counters);
  counters["raw_enters_per_op"] = Fraction(compared.raw.rings.enters, compared.raw.run.requests);
  counters["raw_fsyncs_per_op"] = Fraction(compared.raw.disk.fsyncs, compared.raw.run.requests);
}

bool RowReporter::ReportContext(const Context& /*context*/) {
  for (Presentation* presentation : presentations_) presentation->Begin();
  return true;
}

void RowReporter::ReportRuns(const std::vector<Run>& runs) {
  for (const Run& run : runs) {
    if (run.error_occurred) continue;  // said on stderr when it happened
    const bool is_only = run.run_type == Run::RT_Iteration && run.repetitions <= 1;
    const bool is_median = run.run_type == Run::RT_Aggregate && run.aggregate_name == "median";
    if (!is_only && !is_median) continue;
    const auto is_run = [&](const Case& a_case) {
      return a_case.name == run.run_name.function_name;
    };
    const auto found = std::find_if(cases_.begin(), cases_.end(), is_run);
    if (found == cases_.end()) continue;
    Row row = {*found, {}};
    for (const auto& [name, counter] : run.counters) row.figures[name] = counter.value;
    for (Presentation* presentation : presentations_) presentation->Add(row);
  }
}

void RowReporter::Finalize() {
  for (Presentation* presentation : presentations_) status_.Update(presentation->End());
}

void RateTable::Begin() {
  std::printf("%s\n%s", preamble_.c_str(), kHeadings);
  std::fflush(stdout);
}

void RateTable::Add(const Row& row) {
  const Case& a_case = row.a_case;
  const double metadata =
      row.At("metadata_written_bytes_per_op") + row.At("metadata_read_bytes_per_op");
  const double data = row.At("data_written_bytes_per_op") + row.At("data_read_bytes_per_op");
  absl::PrintF("%-22s %3d %-4s %9s %5s %7s %7s %7s %6s %6s %6s %6s %6s %7s %7s%s\n",
               a_case.workload.name, a_case.depth, a_case.writethrough() ? "wt" : "wb",
               WithCommas(row.At("iops")), WithCommas(row.At("mb_per_s")),
               WithCommas(row.At("p50_us")), WithCommas(row.At("p99_us")),
               WithCommas(row.At("p999_us")), Ratio(row.Find("vs_raw")), Ratio(row.Find("vs_qemu")),
               PerOp(row.At("sqes_per_op")), PerOp(row.At("enters_per_op")),
               PerOp(row.At("fsyncs_per_op")), WithCommas(metadata), WithCommas(data),
               a_case.remark.empty() ? "" : absl::StrCat("  ", a_case.remark));
  std::fflush(stdout);
}

absl::Status RateTable::End() {
  std::printf("%s", kLegend);
  return absl::OkStatus();
}

}  // namespace ringcow
