#include "engine/testing/ignored_fsyncs.h"

#include <cstdint>
#include <memory>
#include <unordered_set>
#include <utility>

namespace ringcow {
namespace {

std::shared_ptr<const TracedRequest> WithoutDsync(const TracedRequest& request) {
  auto without = std::make_shared<TracedRequest>(request);
  without->dsync = false;
  return without;
}

}  // namespace

DiskTrace WithIgnoredFsyncs(const DiskTrace& trace,
                            absl::FunctionRef<bool(size_t n, Content written)> ignores) {
  DiskTrace lied;
  std::unordered_set<uint64_t> ignored;  // ordinals
  Content written = Content::kData;
  size_t fsyncs = 0;
  for (const TraceEvent& event : trace.events()) {
    if (event.kind == TraceEvent::Kind::kMark) {
      lied.Mark(event.mark, event.mark_id);
      continue;
    }
    const TracedRequest& request = *event.request;
    if (event.kind == TraceEvent::Kind::kStarted) {
      if (request.op == Op::kWrite && request.content != Content::kData) written = request.content;
      const bool is_sync = request.op == Op::kFdatasync || request.dsync;
      if (is_sync && ignores(fsyncs++, written)) ignored.insert(request.ordinal);
    }
    if (!ignored.contains(request.ordinal)) {
      lied.Add(event.kind, event.request, event.result);
    } else if (request.dsync) {
      lied.Add(event.kind, WithoutDsync(request), event.result);
    } else {
      lied.Mark("ignored fsync", request.ordinal);
    }
  }
  return lied;
}

}  // namespace ringcow
