#include "qcow2/blkdebug/breakpoints.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

namespace ringcow {

Breakpoints::Breakpoints(Loop& loop) : loop_(loop), changed_(loop) { loop_.AddSource(*this); }

Breakpoints::~Breakpoints() { loop_.RemoveSource(*this); }

bool Breakpoints::Set(DebugEvent event, std::string tag, Notice on_stop, Notice on_go) {
  if (IsAnnounced(event)) return false;
  set_.push_front({event, std::move(tag), std::move(on_stop), std::move(on_go)});
  return true;
}

bool Breakpoints::HasAt(DebugEvent event) const {
  return std::any_of(set_.begin(), set_.end(),
                     [event](const Breakpoint& each) { return each.event == event; });
}

bool Breakpoints::Remove(absl::string_view tag) {
  bool any = set_.remove_if([tag](const Breakpoint& each) { return each.tag == tag; }) > 0;
  while (Resume(tag)) any = true;
  return any;
}

bool Breakpoints::Resume(absl::string_view tag) {
  const auto stopped = std::find_if(stopped_.begin(), stopped_.end(),
                                    [tag](const Breakpoint& each) { return each.tag == tag; });
  if (stopped == stopped_.end()) return false;
  Go(stopped);
  return true;
}

void Breakpoints::Go(List::iterator stopped) {
  stopped->is_over = true;
  stopped->on_go(stopped->tag);
  going_.splice(going_.end(), stopped_, stopped);
  changed_.WakeAll();
}

bool Breakpoints::IsStopped(absl::string_view tag) const {
  return std::any_of(stopped_.begin(), stopped_.end(),
                     [tag](const Breakpoint& each) { return each.tag == tag; });
}

Task<bool> Breakpoints::WaitFor(std::string tag) {
  ++waiters_;
  is_hopeless_ = false;
  while (!IsStopped(tag) && !is_hopeless_) co_await changed_.Wait();
  --waiters_;
  co_return IsStopped(tag);
}

Task<void> Breakpoints::Pass(DebugEvent event) {
  // Those that are here now; what is set while the request is stopped is for others.
  std::vector<List::iterator> here;
  for (auto at = set_.begin(); at != set_.end();) {
    const auto each = at++;
    if (each->event != event) continue;
    stopped_.splice(stopped_.begin(), set_, each);
    here.push_back(each);
    each->on_stop(each->tag);
  }
  if (here.empty()) co_return;
  changed_.WakeAll();
  for (const List::iterator each : here) {
    while (!each->is_over) co_await changed_.Wait();
    going_.erase(each);
  }
}

void Breakpoints::Wait() {
  if (waiters_ > 0) {
    is_hopeless_ = true;
    changed_.WakeAll();
    return;
  }
  while (!stopped_.empty()) Go(stopped_.begin());
}

}  // namespace ringcow
