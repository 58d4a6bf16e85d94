#ifndef RINGCOW_ENGINE_COUNTERS_H_
#define RINGCOW_ENGINE_COUNTERS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace ringcow {

// What the bytes of a request are, so that counters can tell data from metadata and a simulated
// disk can fail "the third L2 write".
enum class Content : uint8_t {
  kData,
  kHeader,
  kRefcountTable,
  kRefcountBlock,
  kL1,
  kL2,
  kReserveRecord,
  kOther,
};
inline constexpr size_t kContents = 8;

constexpr absl::string_view NameOf(Content content) {
  switch (content) {
    case Content::kData:
      return "data";
    case Content::kHeader:
      return "header";
    case Content::kRefcountTable:
      return "refcount table";
    case Content::kRefcountBlock:
      return "refcount block";
    case Content::kL1:
      return "L1 table";
    case Content::kL2:
      return "L2 table";
    case Content::kReserveRecord:
      return "reserve record";
    case Content::kOther:
      return "other";
  }
  return "?";
}

// What one disk was asked to do, counted when a request is handed over (retries of short transfers
// count again). Exact and repeatable: CI gates on these figures.
struct DiskCounters {
  struct Transfers {
    uint64_t reads = 0;
    uint64_t read_bytes = 0;
    uint64_t writes = 0;
    uint64_t written_bytes = 0;
  };
  std::array<Transfers, kContents> by_content{};
  uint64_t fsyncs = 0;
  uint64_t allocations = 0;  // fallocate calls of every mode
  uint64_t truncates = 0;
  uint64_t chains = 0;
  uint64_t drains = 0;
  uint64_t bounced = 0;  // requests that were not aligned for O_DIRECT

  Transfers& operator[](Content content) { return by_content[static_cast<size_t>(content)]; }
  const Transfers& operator[](Content content) const {
    return by_content[static_cast<size_t>(content)];
  }

  uint64_t MetadataBytesWritten() const {
    uint64_t bytes = 0;
    for (size_t i = 0; i < kContents; ++i) {
      if (static_cast<Content>(i) != Content::kData) bytes += by_content[i].written_bytes;
    }
    return bytes;
  }
};

// What a loop's rings did, for all their disks together.
struct RingCounters {
  uint64_t enters = 0;  // io_uring_enter calls, and fdatasync calls in their place
  uint64_t sqes = 0;
  uint64_t cqes = 0;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_COUNTERS_H_
