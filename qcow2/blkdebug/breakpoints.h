#ifndef RINGCOW_QCOW2_BLKDEBUG_BREAKPOINTS_H_
#define RINGCOW_QCOW2_BLKDEBUG_BREAKPOINTS_H_

#include <cstddef>
#include <functional>
#include <list>
#include <string>

#include "absl/strings/string_view.h"
#include "engine/loop.h"
#include "engine/task.h"
#include "engine/wait_list.h"
#include "qcow2/blkdebug/event.h"

namespace ringcow {

// Where requests stop until they are told to go on. A breakpoint stops one request.
//
// When nothing is left to be done but what stopped requests would do, nobody can tell them any
// more: who waits for another one to stop learns that none will, else the stopped ones go on.
class Breakpoints final : private CompletionSource {
 public:
  using Notice = std::function<void(absl::string_view tag)>;

  // Behind what the requests do I/O on: see Loop::AddSource.
  explicit Breakpoints(Loop& loop);
  Breakpoints(const Breakpoints&) = delete;
  Breakpoints& operator=(const Breakpoints&) = delete;
  // No request is stopped.
  ~Breakpoints() override;

  // For the next request that comes to `event`; `on_stop` is then called with the tag, and
  // `on_go` when it goes on. False for events to which no request comes.
  bool Set(DebugEvent event, std::string tag, Notice on_stop, Notice on_go);
  // Whether the next request that comes to `event` stops.
  bool HasAt(DebugEvent event) const;
  // Of all breakpoints with this tag; requests stopped at them go on. False if there are none.
  bool Remove(absl::string_view tag);
  // One request that is stopped goes on. False if there is none.
  bool Resume(absl::string_view tag);
  // Until a request has stopped at a breakpoint with this tag; false when none will.
  Task<bool> WaitFor(std::string tag);

  // What every request does at each of its events.
  Task<void> Pass(DebugEvent event);

 private:
  struct Breakpoint {
    DebugEvent event = DebugEvent::kNone;
    std::string tag;
    Notice on_stop;
    Notice on_go;
    bool is_over = false;  // the stopped request may go on
  };
  using List = std::list<Breakpoint>;

  bool IsStopped(absl::string_view tag) const;
  void Go(List::iterator stopped);

  void Submit() override {}
  void Reap() override {}
  size_t outstanding() const override { return stopped_.size() + waiters_; }
  void Wait() override;

  Loop& loop_;
  List set_;      // newest first, as QEMU
  List stopped_;  // the same
  List going_;    // told to go on, and not yet resumed
  WaitList changed_;
  size_t waiters_ = 0;        // in WaitFor
  bool is_hopeless_ = false;  // none of the waiters' requests will stop
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_BLKDEBUG_BREAKPOINTS_H_
