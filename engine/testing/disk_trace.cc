#include "engine/testing/disk_trace.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace ringcow {

std::string ToString(const TracedRequest& request) {
  const auto ranged = [&](absl::string_view what) {
    return absl::StrFormat("%s #%d of %d bytes at %#x (%s)", what, request.ordinal, request.length,
                           request.offset.value(), NameOf(request.content));
  };
  switch (request.op) {
    case Op::kRead:
      return ranged("read");
    case Op::kWrite:
      return ranged(request.dsync ? "durable write" : "write");
    case Op::kFdatasync:
      return absl::StrFormat("fdatasync #%d", request.ordinal);
    case Op::kWriteZeroes:
      return ranged("zeroing");
    case Op::kPunch:
      return ranged("punch");
    case Op::kAllocate:
      return ranged("allocation");
    case Op::kTruncate:
      return absl::StrFormat("truncation #%d to %d bytes", request.ordinal, request.offset.value());
  }
  return "?";
}

std::string ToString(const TraceEvent& event) {
  switch (event.kind) {
    case TraceEvent::Kind::kStarted:
      return absl::StrCat("started ", ToString(*event.request));
    case TraceEvent::Kind::kApplied:
      return absl::StrFormat("applied %d of %s", event.result, ToString(*event.request));
    case TraceEvent::Kind::kCompleted:
      return absl::StrCat("completed ", ToString(*event.request), ": ",
                          event.result < 0 ? std::strerror(static_cast<int>(-event.result))
                                           : absl::StrCat(event.result));
    case TraceEvent::Kind::kMark:
      return absl::StrFormat("mark %s %d", event.mark, event.mark_id);
  }
  return "?";
}

TraceEvent& DiskTrace::Append() {
  if (other_ != nullptr) other_->events_.emplace_back().mark = "on the other disk";
  return events_.emplace_back();
}

void DiskTrace::Add(TraceEvent::Kind kind, std::shared_ptr<const TracedRequest> request,
                    int64_t result) {
  TraceEvent& event = Append();
  event.kind = kind;
  event.request = std::move(request);
  event.result = result;
}

void DiskTrace::Mark(std::string label, uint64_t id) {
  TraceEvent& event = Append();
  event.kind = TraceEvent::Kind::kMark;
  event.mark = std::move(label);
  event.mark_id = id;
}

std::string DiskTrace::ToString() const {
  std::string text;
  for (size_t i = 0; i < events_.size(); ++i) {
    absl::StrAppend(&text, i, " ", ringcow::ToString(events_[i]), "\n");
  }
  return text;
}

}  // namespace ringcow
