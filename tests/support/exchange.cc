#include "tests/support/exchange.h"

#include <algorithm>
#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"
#include "tests/support/tools.h"

namespace ringcow {

void WriteFile(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  file.close();
  ASSERT_TRUE(file.good());
}

void ExpectCleanAndEqual(const std::string& path, std::span<const std::byte> bytes) {
  const ToolResult check = QemuCheck(path);
  EXPECT_EQ(check.status, 0) << check.output;
  const TempFile raw(".raw");
  ASSERT_NO_FATAL_FAILURE(WriteFile(raw.path(), bytes));
  QemuImg({"compare", "-f", "raw", "-F", "qcow2", raw.path(), path});

  FileHost host(path);
  EXPECT_EQ(Findings(host.disk()), "");
}

void WriteWithQemu(const std::string& path, uint64_t cluster, std::span<std::byte> bytes,
                   std::mt19937_64& random) {
  std::vector<std::string> commands;
  for (int i = 0; i < 12; ++i) {
    const uint64_t unit = random() % 2 == 0 ? cluster : 512;
    const uint64_t begin = random() % bytes.size() / unit * unit;
    const uint64_t length = std::min<uint64_t>((1 + random() % (3 * cluster)) / unit * unit + unit,
                                               bytes.size() - begin);
    const int pattern = static_cast<int>(1 + random() % 255);
    std::byte value{};
    std::string command;
    switch (random() % 6) {
      case 0:
        command = "write -z";
        break;
      case 1:
        command = "write -z -u";
        break;
      case 2:
        // Of clusters that are discarded in part, the rest would keep its bytes.
        if (unit != cluster) continue;
        command = "discard";
        break;
      default:
        command = absl::StrCat("write -P ", pattern);
        value = static_cast<std::byte>(pattern);
        break;
    }
    commands.push_back(absl::StrFormat("%s %d %d", command, begin, length));
    std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(begin), length, value);
    commands.push_back(absl::StrFormat("read -P %d %d %d", static_cast<int>(value), begin, length));
  }
  SCOPED_TRACE(testing::PrintToString(commands));
  QemuIo(path, commands);
}

}  // namespace ringcow
