#include "bench/costs.h"

#include <algorithm>
#include <cstdint>

namespace ringcow {
namespace {

uint64_t BytesRead(const DiskCounters& disk, bool data) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < kContents; ++i) {
    if ((static_cast<Content>(i) == Content::kData) == data) bytes += disk.by_content[i].read_bytes;
  }
  return bytes;
}

}  // namespace

std::map<std::string, double> CostsPerOp(const Measured& measured) {
  const auto requests = static_cast<double>(std::max<uint64_t>(measured.run.requests, 1));
  const auto per_op = [&](uint64_t amount) { return static_cast<double>(amount) / requests; };
  const DiskCounters& disk = measured.disk;
  return {
      {"sqes_per_op", per_op(measured.rings.sqes)},
      {"enters_per_op", per_op(measured.rings.enters)},
      {"fsyncs_per_op", per_op(disk.fsyncs)},
      {"fallocates_per_op", per_op(disk.allocations)},
      {"metadata_written_bytes_per_op", per_op(disk.MetadataBytesWritten())},
      {"metadata_read_bytes_per_op", per_op(BytesRead(disk, /*data=*/false))},
      {"data_written_bytes_per_op", per_op(disk[Content::kData].written_bytes)},
      {"data_read_bytes_per_op", per_op(BytesRead(disk, /*data=*/true))},
      {"heap_allocations_per_op", per_op(measured.run.heap_allocations)},
  };
}

}  // namespace ringcow
