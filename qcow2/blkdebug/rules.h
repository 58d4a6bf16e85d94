#ifndef RINGCOW_QCOW2_BLKDEBUG_RULES_H_
#define RINGCOW_QCOW2_BLKDEBUG_RULES_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "qcow2/blkdebug/event.h"

namespace ringcow {

// Kinds of requests that a rule can make fail.
enum class DebugIo : uint8_t { kRead, kWrite, kWriteZeroes, kDiscard, kFlush, kBlockStatus };

// Once the event has come in the state, requests fail: those of the kind that touch the place.
struct InjectError {
  DebugEvent event = DebugEvent::kNone;
  uint64_t state = 0;                             // 0: any
  std::optional<DebugIo> io = std::nullopt;       // nothing: any but kBlockStatus
  std::optional<uint64_t> offset = std::nullopt;  // a byte; nothing: anywhere
  int error = EIO;                                // an errno; 0: it does not fail after all
  bool once = false;                              // the rule is gone with the first failure
  bool immediately = false;                       // else a turn of the loop later
};

struct SetState {
  DebugEvent event = DebugEvent::kNone;
  uint64_t state = 0;  // 0: any
  uint64_t new_state = 0;
};

struct DebugRules {
  std::vector<InjectError> inject_errors = {};
  std::vector<SetState> set_states = {};
};

struct DebugFault {
  int error = 0;
  bool immediately = false;
};

// Rules at work: which state they are in, and which errors are being injected. An event that
// begins to inject errors ends all that an earlier one began. No I/O.
class DebugMachine {
 public:
  explicit DebugMachine(DebugRules rules)
      : rules_(std::move(rules)), is_spent_(rules_.inject_errors.size()) {}

  void Happened(DebugEvent event);
  // Whether any rule is tied to it.
  bool DependsOn(DebugEvent event) const;

  // What becomes of a request of `length` bytes, 0 for a flush; nothing: it is carried out.
  std::optional<DebugFault> FaultOf(DebugIo io, uint64_t offset, uint64_t length);

 private:
  const DebugRules rules_;
  uint64_t state_ = 1;
  std::vector<bool> is_spent_;  // of each of rules_.inject_errors
  std::vector<size_t> active_;  // indices of these
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_BLKDEBUG_RULES_H_
