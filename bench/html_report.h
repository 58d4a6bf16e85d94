#ifndef RINGCOW_BENCH_HTML_REPORT_H_
#define RINGCOW_BENCH_HTML_REPORT_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/presentation.h"

namespace ringcow {

// Where and with what the figures were taken: a name and what it is, in the order of the page.
using Facts = std::vector<std::pair<std::string, std::string>>;

// The comparison as one HTML page that needs nothing else: no script, no font, no network.
std::string MakeHtmlReport(const std::vector<Row>& rows, const Facts& facts);

// Writes it when all is measured.
class HtmlReport final : public Presentation {
 public:
  // The file is made, or emptied, now: a path that cannot be is said before anything is measured.
  static absl::StatusOr<HtmlReport> Create(const std::string& path, Facts facts);

  void Add(const Row& row) override { rows_.push_back(row); }
  absl::Status End() override;

 private:
  HtmlReport(std::string path, Facts facts) : path_(std::move(path)), facts_(std::move(facts)) {}

  const std::string path_;
  const Facts facts_;
  std::vector<Row> rows_;
};

}  // namespace ringcow

#endif  // RINGCOW_BENCH_HTML_REPORT_H_
