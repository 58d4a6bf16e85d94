#include "bench/html_report.h"

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "bench/catalog.h"
#include "bench/description.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

std::vector<Row> Rows() {
  std::vector<Row> rows;
  for (const Case& a_case : ShortList({})) {
    const auto number = static_cast<double>(rows.size() + 1);
    rows.push_back({a_case,
                    {{"iops", 12000 * number},
                     {"raw_iops", 15000},
                     {"vs_raw", 0.8 * number},
                     {"p50_us", 100 * number},
                     {"p99_us", 500 * number},
                     {"p999_us", 4000 * number},
                     {"raw_p50_us", 80},
                     {"raw_p99_us", 300},
                     {"raw_p999_us", 900},
                     {"sqes_per_op", 1.004}}});
  }
  rows[0].figures["qemu_native_iops"] = 3000;
  rows[0].figures["vs_qemu"] = 4;
  return rows;
}

TEST(HtmlReportTest, HasEveryWorkloadTheRatesAndTheMachine) {
  const std::string page = MakeHtmlReport(Rows(), {{"Kernel", "Linux 6.1"}, {"QEMU", "10.0.2"}});
  for (const Case& a_case : ShortList({})) {
    EXPECT_TRUE(absl::StrContains(page, a_case.name)) << a_case.name;
    EXPECT_TRUE(absl::StrContains(page, Describe(a_case.workload))) << a_case.name;
  }
  for (const char* wanted : {"Linux 6.1", "10.0.2", "12,000", "3,000", "15,000", "4.00×", "1.004",
                             "100 · 500 · 4,000"}) {
    EXPECT_TRUE(absl::StrContains(page, wanted)) << wanted;
  }
}

TEST(HtmlReportTest, NeedsNothingElse) {
  const std::string page = MakeHtmlReport(Rows(), {});
  for (const char* unwanted :
       {"http", "src=", "href=", "url(", "@import", "<script", "nan", "inf"}) {
    EXPECT_FALSE(absl::StrContains(page, unwanted)) << unwanted;
  }
}

TEST(HtmlReportTest, QuotesWhatItDidNotWrite) {
  const std::string page = MakeHtmlReport({}, {{"Machine", "<b>\"fast\" & cheap</b>"}});
  EXPECT_TRUE(absl::StrContains(page, "&lt;b&gt;&quot;fast&quot; &amp; cheap&lt;/b&gt;"));
}

TEST(HtmlReportTest, IsWrittenAtTheEnd) {
  const std::string path = testing::TempDir() + "/report.html";
  auto report = HtmlReport::Create(path, {});
  ASSERT_TRUE(report.ok()) << report.status();
  for (const Row& row : Rows()) report->Add(row);
  ASSERT_TRUE(report->End().ok());
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(text, MakeHtmlReport(Rows(), {}));
  EXPECT_FALSE(HtmlReport::Create("/no/such/folder/report.html", {}).ok());
}

}  // namespace
}  // namespace ringcow
