#ifndef RINGCOW_ENGINE_TESTING_DISK_TRACE_H_
#define RINGCOW_ENGINE_TESTING_DISK_TRACE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/counters.h"
#include "engine/host_offset.h"
#include "engine/request.h"

namespace ringcow {

// A request that changes a disk, or an fsync, as the trace keeps it.
struct TracedRequest {
  uint64_t ordinal = 0;  // position among all requests handed to the disk, reads included
  Op op = Op::kWrite;
  Content content = Content::kData;
  bool dsync = false;
  HostOffset offset;             // kTruncate: the new size
  uint64_t length = 0;           // bytes
  std::vector<std::byte> bytes;  // kWrite only

  HostOffset end() const { return offset + length; }
};

// "write #7 of 4096 bytes at 0x10000 (L2)", for reports.
std::string ToString(const TracedRequest& request);

// One thing that happened at a simulated disk. Its sequence number is its index in the trace.
struct TraceEvent {
  enum class Kind : uint8_t {
    kStarted,    // from here on it may be on the disk: its predecessors in a chain have completed
    kApplied,    // reads see it; `result` is the number of bytes (1 for what transfers none)
    kCompleted,  // `result` is that of the request: bytes transferred, or a negative errno
    kMark,       // a note of whoever runs the scenario
  };

  Kind kind = Kind::kMark;
  // Never null but for kMark. In kApplied of a write it holds the bytes as they were then, which
  // are others than in kStarted if the caller changed the memory while it was being written.
  std::shared_ptr<const TracedRequest> request;
  int64_t result = 0;
  std::string mark;
  uint64_t mark_id = 0;
};

// "started write #7 of 4096 bytes at 0x10000 (L2)", for reports.
std::string ToString(const TraceEvent& event);

// Everything that happened at a simulated disk, in order, reads excepted. A request that was
// cancelled before it started has a kCompleted only.
class DiskTrace {
 public:
  const std::vector<TraceEvent>& events() const { return events_; }
  size_t size() const { return events_.size(); }

  void Add(TraceEvent::Kind kind, std::shared_ptr<const TracedRequest> request, int64_t result = 0);
  void Mark(std::string label, uint64_t id);

  // From here on each of two empty traces grows by a mark whenever the other grows, so that a
  // position is the same instant in both: for what lies on two disks. Both live equally long.
  static void ShareTime(DiskTrace& a, DiskTrace& b) {
    a.other_ = &b;
    b.other_ = &a;
  }

  // The trace as text, an event a line.
  std::string ToString() const;

 private:
  TraceEvent& Append();

  std::vector<TraceEvent> events_;
  DiskTrace* other_ = nullptr;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_TESTING_DISK_TRACE_H_
