#include "cli/io/report.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "cli/sizes.h"

namespace ringcow {
namespace {

// "0:01:02.03" with `all_parts`, else without what is zero in front, and "02.03 sec" below a
// minute.
std::string ReadableTime(std::chrono::duration<double> elapsed, bool all_parts) {
  const auto hundredths = static_cast<uint64_t>(elapsed.count() * 100);
  const uint64_t seconds = hundredths / 100;
  const std::string end = absl::StrFormat("%02d.%02d", seconds % 60, hundredths % 100);
  if (all_parts || seconds >= 3600) {
    return absl::StrFormat("%d:%02d:%s", seconds / 3600, seconds / 60 % 60, end);
  }
  return seconds >= 60 ? absl::StrFormat("%02d:%s", seconds / 60, end) : end + " sec";
}

}  // namespace

void PrintReport(const FinishedTransfer& transfer, bool with_commas) {
  const double seconds = std::max(transfer.elapsed.count(), 1e-9);
  const double rate = static_cast<double>(transfer.bytes) / seconds;
  if (with_commas) {
    absl::PrintF("%d,1,%s,%.3f,%.3f\n", transfer.bytes, ReadableTime(transfer.elapsed, true), rate,
                 1 / seconds);
    return;
  }
  absl::PrintF("%s %d/%d bytes at offset %d\n", transfer.verb, transfer.bytes, transfer.bytes,
               transfer.offset);
  absl::PrintF("%s, 1 ops; %s (%s/sec and %.4f ops/sec)\n",
               PreciseSize(static_cast<double>(transfer.bytes)),
               ReadableTime(transfer.elapsed, false), PreciseSize(rate), 1 / seconds);
}

void PrintDump(std::span<const std::byte> bytes, uint64_t offset) {
  constexpr size_t kPerLine = 16;
  while (!bytes.empty()) {
    const std::span<const std::byte> line = bytes.first(std::min(kPerLine, bytes.size()));
    std::string text;
    absl::PrintF("%08x:  ", offset);
    for (const std::byte byte : line) {
      absl::PrintF("%02x ", static_cast<uint8_t>(byte));
      text += absl::ascii_isalnum(static_cast<uint8_t>(byte)) ? static_cast<char>(byte) : '.';
    }
    absl::PrintF(" %s\n", text);
    bytes = bytes.subspan(line.size());
    offset += line.size();
  }
}

}  // namespace ringcow
