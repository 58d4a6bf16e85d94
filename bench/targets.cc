#include "bench/targets.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "bench/description.h"

namespace ringcow {
namespace {

// What QEMU 10 writes for each flush after an allocation: two whole tables of 64 KiB.
constexpr double kQemuMetadataPerFlush = 131072;

// What happens once is not what a request costs.
constexpr double kSlack = 0.005;

constexpr char kLegend[] = R"(
x: times the rate of the others, medians of each repetition's ratios. The targets are for a file
system in memory (--ramdisk), QEMU 10 and 64 KiB clusters; counts are to be at most so much.
ceiling: of x QEMU on this machine: what the same requests reach on a fallocated raw file, which
looks nothing up and keeps nothing in order, and copies what has to be copied of a cluster.
This tells and does not judge: it ends well whatever was missed.
)";

std::string Ratio(std::optional<double> ratio) {
  if (!ratio.has_value()) return "-";
  return *ratio < 9.95 ? absl::StrFormat("%.2f", *ratio) : absl::StrFormat("%.1f", *ratio);
}

std::string Few(double value) {
  return value < 9.995 ? absl::StrFormat("%.3f", value) : WithCommas(value);
}

absl::string_view Verdict(std::optional<double> reached, std::optional<double> target) {
  if (!reached.has_value() || !target.has_value()) return "";
  return *reached >= *target ? "met" : "missed";
}

bool IsCase(const Row& row, const Target& target) {
  return row.a_case.workload.name == target.workload && row.a_case.depth == target.depth;
}

const Target* TargetOf(const Row& row, const std::vector<Target>& targets) {
  const auto found = std::find_if(targets.begin(), targets.end(),
                                  [&](const Target& target) { return IsCase(row, target); });
  return found == targets.end() ? nullptr : &*found;
}

}  // namespace

std::vector<Target> Targets() {
  return {
      {"scattered_4k", 32, 15, 0.95},
      {"scattered_4k/flush:64", 32, 10, std::nullopt},
      {"scattered_4k/flush:1", 1, 2.5, std::nullopt},
      {"sequential_4k", 16, 4, 0.90},
      {"sequential_64k", 16, 3.5, 0.95},
      {"scattered_64k", 32, 4.5, 0.95},
      {"overlay_4k", 32, 2.2, std::nullopt},
      {"overlay_4k/qcow2_base", 32, 2.2, std::nullopt},
      {"overlay_4k/extended_l2", 32, 1.5, std::nullopt},
      {"after_snapshot_4k", 32, 18, std::nullopt},
      {"overwrite_4k_hot", 32, 1.3, 0.95},
      {"read_4k_hot", 64, 1.2, 0.95},
      {"read_4k_cold", 64, 1.5, std::nullopt},
  };
}

std::vector<Case> TargetCases(const CatalogOptions& options) {
  std::vector<Case> cases;
  for (const Target& target : Targets()) {
    AddCases(cases, target.workload, target.depth, CacheMode::kWriteback, options);
  }
  return cases;
}

void TargetTable::Begin() {
  absl::PrintF("%s\n", preamble_);
  absl::PrintF("%-67s %3s %7s %6s %6s %8s %7s %6s\n", "workload", "QD", "x QEMU", "target", "",
               "ceiling", "x raw", "target");
  std::fflush(stdout);
}

void TargetTable::Add(const Row& row) {
  rows_.push_back(row);
  const std::vector<Target> targets = Targets();
  const Target* const target = TargetOf(row, targets);
  if (target == nullptr) return;
  const std::optional<double> vs_qemu = row.Find("vs_qemu");
  const std::optional<double> vs_raw = row.Find("vs_raw");
  absl::PrintF("%-67s %3d %7s %6s %-6s %8s %7s %6s %s\n", Describe(row.a_case.workload),
               row.a_case.depth, Ratio(vs_qemu), Ratio(target->vs_qemu),
               Verdict(vs_qemu, target->vs_qemu), Ratio(row.Find("raw_vs_qemu")), Ratio(vs_raw),
               Ratio(target->vs_raw), Verdict(vs_raw, target->vs_raw));
  std::fflush(stdout);
}

absl::Status TargetTable::End() {
  absl::PrintF("\n%-67s %13s %6s\n", "count", "reached", "target");
  for (const CountTarget& count : CountTargets(rows_)) {
    absl::PrintF("%-67s %13s %6s %s\n", count.what, Few(count.reached), Few(count.at_most),
                 count.is_met() ? "met" : "missed");
  }
  std::printf("%s", kLegend);
  return absl::OkStatus();
}

std::vector<CountTarget> CountTargets(const std::vector<Row>& rows) {
  std::vector<CountTarget> counts;
  for (const Row& row : rows) {
    const Workload& workload = row.a_case.workload;
    const std::string name = absl::StrCat(workload.name, ", QD", row.a_case.depth);
    if (workload.name == "scattered_4k/flush:1") {
      counts.push_back(
          {absl::StrCat("fsyncs per guest flush: ", name), 1, row.At("fsyncs_per_flush"), kSlack});
      counts.push_back({absl::StrCat("bytes of metadata per guest flush: ", name),
                        kQemuMetadataPerFlush / 30, row.At("metadata_written_bytes_per_flush")});
    }
    if (workload.start == Workload::Start::kSnapshot) {
      counts.push_back(
          {absl::StrCat("fsyncs per written cluster: ", name), 0.02, row.At("fsyncs_per_op")});
      counts.push_back({absl::StrCat("bytes of metadata per written cluster: ", name), 1024,
                        row.At("metadata_written_bytes_per_op")});
    }
    if (row.a_case.depth == 32 && workload.flush_every == 0) {
      counts.push_back(
          {absl::StrCat("enters per request: ", name), 1.0 / 8, row.At("enters_per_op")});
    }
    if (workload.flush_every == 0) {
      counts.push_back({absl::StrCat("heap allocations per steady request: ", name), 0,
                        row.At("steady_heap_allocations_per_op"), kSlack});
    }
  }
  // One kind of count after the other.
  std::sort(counts.begin(), counts.end(),
            [](const CountTarget& a, const CountTarget& b) { return a.what < b.what; });
  return counts;
}

}  // namespace ringcow
