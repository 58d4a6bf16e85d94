#include "bench/html_report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "bench/description.h"

namespace ringcow {
namespace {

constexpr char kHead[] = R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ringcow: the allocation benchmark</title>
<style>
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #17202b; --soft: #5b6776; --line: #dfe4ea;
  --ours: #0e7c86; --qemu: #e08a1e; --raw: #a3adb9; --track: #eef1f4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12171d; --card: #1a2129; --ink: #e7ecf1; --soft: #98a5b3; --line: #2c3641;
    --ours: #2fb4bf; --qemu: #e9a04a; --raw: #66727f; --track: #232c35;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 32px 20px 48px; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 1080px; margin: 0 auto; }
h1 { margin: 0 0 4px; font-size: 28px; letter-spacing: -0.01em; }
h2 { margin: 0 0 2px; font-size: 18px; }
p { margin: 0 0 14px; color: var(--soft); }
section, .tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
section { padding: 20px 24px 22px; margin-top: 18px; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 10px 0 18px; color: var(--soft); }
.facts b { color: var(--ink); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(3, 1fr); gap: 18px; }
.tile { padding: 16px 20px; }
.tile b { display: block; font-size: 34px; line-height: 1.15; color: var(--ours); }
.tile span { color: var(--soft); }
.legend { display: flex; gap: 18px; margin-bottom: 14px; color: var(--soft); }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px;
  margin-right: 6px; vertical-align: -1px; }
.row { display: grid; grid-template-columns: 310px 1fr 120px; gap: 0 18px; align-items: center;
  padding: 10px 0; border-top: 1px solid var(--line); }
.name small { display: block; color: var(--soft); font-size: 12.5px;
  font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
.bar { display: flex; align-items: center; height: 17px; font-size: 12.5px;
  font-variant-numeric: tabular-nums; }
.bar i { display: block; height: 13px; min-width: 2px; border-radius: 0 3px 3px 0;
  margin-right: 8px; }
.bar span { white-space: nowrap; color: var(--soft); }
.ours { background: var(--ours); } .qemu { background: var(--qemu); } .raw { background: var(--raw); }
.bar.us span { color: var(--ink); font-weight: 600; }
.name::first-letter { text-transform: uppercase; }
.times { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.times b { font-size: 20px; color: var(--ours); }
.times small { display: block; color: var(--soft); font-size: 12.5px; }
.axis, .plot { position: relative; }
.axis { height: 18px; font-size: 12px; color: var(--soft); }
.axis span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.plot { height: 38px; background: var(--track); border-radius: 4px; }
.plot u { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--line); }
.range { position: absolute; height: 2px; }
.dot { position: absolute; width: 9px; height: 9px; margin: -4px 0 0 -4.5px; border-radius: 50%; }
.dot.tail { width: 3px; height: 11px; margin: -5px 0 0 -1.5px; border-radius: 1px; }
.lat .times { font-size: 12.5px; color: var(--soft); }
.lat .row { grid-template-columns: 310px 1fr 180px; padding: 7px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px;
  font-variant-numeric: tabular-nums; }
th, td { padding: 5px 8px; text-align: right; border-top: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; border-top: 0; }
th:first-child, td:first-child { text-align: left; padding-left: 0;
  font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 12.5px; }
@media (max-width: 760px) {
  .tiles, .row, .lat .row { grid-template-columns: 1fr; }
  .times { text-align: left; }
}
</style>
</head>
<body><main>
)";

constexpr char kTail[] = "</main></body>\n</html>\n";

constexpr char kRatesIntroduction[] =
    "<section><h2>Requests per second</h2>\n"
    "<p>Longer is better. The bars of one workload share a scale; workloads do not. The raw file "
    "is "
    "preallocated and written by the same engine: what the storage can do.</p>\n";

constexpr char kLatenciesIntroduction[] =
    "<section class=\"lat\"><h2>Latency</h2>\n"
    "<p>Further left is better; microseconds, on a logarithmic scale. The dot is the median, the "
    "strokes are the 99th and the 99.9th percentile. qemu-img bench does not tell its own.</p>\n";

constexpr char kTableIntroduction[] =
    "<section><h2>What a request costs</h2>\n"
    "<p>Counted, not timed: all but enters, which are io_uring_enter calls, repeat exactly on "
    "every "
    "machine. Bytes are those read and written.</p>\n";

std::string Escaped(absl::string_view text) {
  return absl::StrReplaceAll(text,
                             {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::string Times(double ratio) {
  return ratio < 9.95 ? absl::StrFormat("%.2f", ratio) : absl::StrFormat("%.1f", ratio);
}

// Few figures, as many as matter.
std::string Few(double value) {
  if (value == 0) return "0";
  if (value < 0.001) return "&lt;0.001";
  return value < 9.995 ? absl::StrFormat("%.3f", value) : WithCommas(value);
}

std::optional<double> Median(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

std::optional<double> QemuRate(const Row& row) {
  const std::optional<double> io_uring = row.Find("qemu_io_uring_iops");
  const std::optional<double> native = row.Find("qemu_native_iops");
  if (!io_uring.has_value()) return native;
  return std::max(*io_uring, native.value_or(0));
}

std::string Words(const Case& a_case) {
  return absl::StrCat(Describe(a_case.workload),
                      a_case.writethrough() ? ", each durable when it ends" : "");
}

std::string Name(const Row& row) {
  const Case& a_case = row.a_case;
  return absl::StrCat("<div class=\"name\">", Escaped(Words(a_case)), "<small>",
                      Escaped(a_case.workload.name), " · QD ", a_case.depth,
                      a_case.remark.empty() ? "" : " · ", Escaped(a_case.remark), "</small></div>");
}

std::string Tile(const std::string& figure, absl::string_view what) {
  return absl::StrCat("<div class=\"tile\"><b>", figure, "</b><span>", Escaped(what),
                      "</span></div>\n");
}

// What is said first: how ringcow compares over all workloads, and where it gains most.
std::string Tiles(const std::vector<Row>& rows) {
  std::vector<double> qemu_ratios, raw_ratios;
  const Row* best = nullptr;
  for (const Row& row : rows) {
    if (const auto ratio = row.Find("vs_raw"); ratio.has_value()) raw_ratios.push_back(*ratio);
    const std::optional<double> ratio = row.Find("vs_qemu");
    if (!ratio.has_value()) continue;
    qemu_ratios.push_back(*ratio);
    if (best == nullptr || *ratio > best->At("vs_qemu")) best = &row;
  }
  std::string tiles;
  if (const auto median = Median(qemu_ratios); median.has_value()) {
    absl::StrAppend(&tiles,
                    Tile(Times(*median) + "×", absl::StrCat("QEMU's rate: the median of ",
                                                            qemu_ratios.size(), " workloads")));
    absl::StrAppend(
        &tiles, Tile(Times(best->At("vs_qemu")) + "×",
                     absl::StrCat("QEMU's rate at most: ", Describe(best->a_case.workload), ", ",
                                  best->a_case.depth, " at a time")));
  }
  if (const auto median = Median(raw_ratios); median.has_value()) {
    absl::StrAppend(
        &tiles, Tile(Times(*median) + "×", absl::StrCat("the rate of a raw file: the median of ",
                                                        raw_ratios.size(), " workloads")));
  }
  return tiles.empty() ? "" : absl::StrCat("<div class=\"tiles\">", tiles, "</div>\n");
}

std::string Legend(bool with_qemu) {
  return absl::StrCat("<div class=\"legend\"><span><i class=\"ours\"></i>ringcow</span>",
                      with_qemu ? "<span><i class=\"qemu\"></i>QEMU</span>" : "",
                      "<span><i class=\"raw\"></i>raw file</span></div>\n");
}

std::string Bar(absl::string_view whose, absl::string_view emphasis, double rate, double longest) {
  // Room for the number beside the longest.
  const double width = longest > 0 ? rate / longest * 84 : 0;
  return absl::StrFormat(
      "<div class=\"bar%s\"><i class=\"%s\" style=\"width:%.2f%%\"></i><span>%s</span></div>",
      emphasis, whose, width, WithCommas(rate));
}

std::string Rates(const std::vector<Row>& rows) {
  const bool with_qemu = std::any_of(rows.begin(), rows.end(),
                                     [](const Row& row) { return QemuRate(row).has_value(); });
  std::string text = absl::StrCat(kRatesIntroduction, Legend(with_qemu));
  for (const Row& row : rows) {
    const double ours = row.At("iops");
    const double raw = row.At("raw_iops");
    const std::optional<double> qemu = QemuRate(row);
    const double longest = std::max({ours, raw, qemu.value_or(0)});
    absl::StrAppend(&text, "<div class=\"row\">", Name(row), "<div>",
                    Bar("ours", " us", ours, longest));
    if (qemu.has_value()) absl::StrAppend(&text, Bar("qemu", "", *qemu, longest));
    absl::StrAppend(&text, Bar("raw", "", raw, longest), "</div><div class=\"times\">");
    if (const auto ratio = row.Find("vs_qemu"); ratio.has_value()) {
      absl::StrAppend(&text, "<b>", Times(*ratio), "×</b> QEMU");
    }
    absl::StrAppend(&text, "<small>", Times(row.At("vs_raw")), "× raw</small></div></div>\n");
  }
  return text + "</section>\n";
}

constexpr std::array<const char*, 3> kPercentiles = {"p50_us", "p99_us", "p999_us"};

// Where on a logarithmic axis a time is, in percent of its length.
class LatencyAxis {
 public:
  explicit LatencyAxis(const std::vector<Row>& rows) {
    double least = 1e9, most = 1;
    for (const Row& row : rows) {
      for (const std::string prefix : {"", "raw_"}) {
        for (const char* percentile : kPercentiles) {
          const double value = std::max(row.At(prefix + percentile), 1.0);
          least = std::min(least, value);
          most = std::max(most, value);
        }
      }
    }
    first_ = std::floor(std::log10(std::min(least, most)));
    last_ = std::max(std::ceil(std::log10(most)), first_ + 1);
  }

  double At(double microseconds) const {
    const double place = (std::log10(std::max(microseconds, 1.0)) - first_) / (last_ - first_);
    return std::clamp(place, 0.0, 1.0) * 100;
  }

  std::string Labels() const {
    std::string text = "<div class=\"axis\">";
    for (double power = first_; power <= last_; ++power) {
      const double value = std::pow(10, power);
      const std::string label = value < 1e3   ? absl::StrFormat("%.0f µs", value)
                                : value < 1e6 ? absl::StrFormat("%.0f ms", value / 1e3)
                                              : absl::StrFormat("%.0f s", value / 1e6);
      absl::StrAppendFormat(&text, "<span style=\"left:%.2f%%\">%s</span>", At(value), label);
    }
    return text + "</div>";
  }

  std::string Grid() const {
    std::string text;
    for (double power = first_ + 1; power < last_; ++power) {
      absl::StrAppendFormat(&text, "<u style=\"left:%.2f%%\"></u>", At(std::pow(10, power)));
    }
    return text;
  }

 private:
  double first_ = 0;  // powers of ten
  double last_ = 1;
};

std::string Latency(const LatencyAxis& axis, const Row& row, const std::string& prefix,
                    absl::string_view whose, int top) {
  const double begin = axis.At(row.At(prefix + "p50_us"));
  const double end = axis.At(row.At(prefix + "p999_us"));
  std::string text =
      absl::StrFormat("<i class=\"range %s\" style=\"top:%dpx;left:%.2f%%;width:%.2f%%\"></i>",
                      whose, top - 1, begin, std::max(end - begin, 0.0));
  for (const char* percentile : kPercentiles) {
    const bool is_median = percentile == kPercentiles[0];
    absl::StrAppendFormat(&text, "<i class=\"dot %s%s\" style=\"top:%dpx;left:%.2f%%\"></i>", whose,
                          is_median ? "" : " tail", top, axis.At(row.At(prefix + percentile)));
  }
  return text;
}

std::string Latencies(const std::vector<Row>& rows) {
  const LatencyAxis axis(rows);
  std::string text = absl::StrCat(kLatenciesIntroduction, Legend(/*with_qemu=*/false));
  absl::StrAppend(&text, "<div class=\"row\"><div></div>", axis.Labels(),
                  "<div class=\"times\">p50 · p99 · p99.9</div></div>\n");
  for (const Row& row : rows) {
    absl::StrAppend(&text, "<div class=\"row\">", Name(row), "<div class=\"plot\">", axis.Grid(),
                    Latency(axis, row, "", "ours", 12), Latency(axis, row, "raw_", "raw", 27),
                    "</div><div class=\"times\">");
    for (const char* percentile : kPercentiles) {
      absl::StrAppend(&text, percentile == kPercentiles[0] ? "" : " · ",
                      WithCommas(row.At(percentile)));
    }
    absl::StrAppend(&text, "</div></div>\n");
  }
  return text + "</section>\n";
}

std::string CostTable(const std::vector<Row>& rows) {
  std::string text = absl::StrCat(
      kTableIntroduction,
      "<div class=\"scroll\"><table><tr><th>workload</th><th>SQEs</th><th>enters</th>"
      "<th>fsyncs</th><th>heap allocations</th><th>metadata bytes</th><th>data bytes</th></tr>\n");
  for (const Row& row : rows) {
    absl::StrAppend(
        &text, "<tr><td>", Escaped(row.a_case.name), "</td><td>", Few(row.At("sqes_per_op")),
        "</td><td>", Few(row.At("enters_per_op")), "</td><td>", Few(row.At("fsyncs_per_op")),
        "</td><td>", Few(row.At("heap_allocations_per_op")), "</td><td>",
        WithCommas(row.At("metadata_written_bytes_per_op") + row.At("metadata_read_bytes_per_op")),
        "</td><td>",
        WithCommas(row.At("data_written_bytes_per_op") + row.At("data_read_bytes_per_op")),
        "</td></tr>\n");
  }
  return text + "</table></div></section>\n";
}

}  // namespace

std::string MakeHtmlReport(const std::vector<Row>& rows, const Facts& facts) {
  std::string text =
      absl::StrCat(kHead, "<h1>ringcow: the allocation benchmark</h1>\n<div class=\"facts\">");
  for (const auto& [name, fact] : facts) {
    absl::StrAppend(&text, "<span>", Escaped(name), " <b>", Escaped(fact), "</b></span>");
  }
  absl::StrAppend(&text, "</div>\n", Tiles(rows), Rates(rows), Latencies(rows), CostTable(rows),
                  kTail);
  return text;
}

absl::StatusOr<HtmlReport> HtmlReport::Create(const std::string& path, Facts facts) {
  const std::ofstream file(path, std::ios::trunc);
  if (!file) return absl::UnavailableError(absl::StrCat("could not make the report '", path, "'"));
  return HtmlReport(path, std::move(facts));
}

absl::Status HtmlReport::End() {
  std::ofstream file(path_, std::ios::trunc);
  file << MakeHtmlReport(rows_, facts_) << std::flush;
  if (file) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("could not write the report '", path_, "'"));
}

}  // namespace ringcow
