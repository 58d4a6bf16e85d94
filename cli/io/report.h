#ifndef RINGCOW_CLI_IO_REPORT_H_
#define RINGCOW_CLI_IO_REPORT_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/strings/string_view.h"

namespace ringcow {

// A transfer that ended well, for its report.
struct FinishedTransfer {
  absl::string_view verb;  // "read" or "wrote"
  uint64_t offset = 0;
  uint64_t bytes = 0;
  std::chrono::duration<double> elapsed{};
};

// "wrote 65536/65536 bytes at offset 0" and a line of rates; or one line with commas (-C).
void PrintReport(const FinishedTransfer& transfer, bool with_commas);

// Sixteen bytes a line, in hexadecimal and as text; `offset` is that of the first.
void PrintDump(std::span<const std::byte> bytes, uint64_t offset);

}  // namespace ringcow

#endif  // RINGCOW_CLI_IO_REPORT_H_
