#include "qcow2/blkdebug/rules.h"

#include <algorithm>

namespace ringcow {
namespace {

bool Touches(const InjectError& rule, uint64_t offset, uint64_t length) {
  if (!rule.offset.has_value()) return true;
  return *rule.offset >= offset && *rule.offset - offset < length;
}

bool IsAbout(const InjectError& rule, DebugIo io) {
  return rule.io.has_value() ? *rule.io == io : io != DebugIo::kBlockStatus;
}

}  // namespace

bool DebugMachine::DependsOn(DebugEvent event) const {
  const auto is_tied = [event](const auto& rule) { return rule.event == event; };
  return std::any_of(rules_.inject_errors.begin(), rules_.inject_errors.end(), is_tied) ||
         std::any_of(rules_.set_states.begin(), rules_.set_states.end(), is_tied);
}

void DebugMachine::Happened(DebugEvent event) {
  const auto applies = [this, event](const auto& rule) {
    return rule.event == event && (rule.state == 0 || rule.state == state_);
  };
  std::vector<size_t> begun;
  for (size_t i = 0; i < rules_.inject_errors.size(); ++i) {
    if (!is_spent_[i] && applies(rules_.inject_errors[i])) begun.push_back(i);
  }
  if (!begun.empty()) active_ = std::move(begun);
  // All rules see the state as it was before.
  const auto change = std::find_if(rules_.set_states.begin(), rules_.set_states.end(), applies);
  if (change != rules_.set_states.end()) state_ = change->new_state;
}

std::optional<DebugFault> DebugMachine::FaultOf(DebugIo io, uint64_t offset, uint64_t length) {
  for (auto at = active_.begin(); at != active_.end(); ++at) {
    const InjectError& rule = rules_.inject_errors[*at];
    if (!IsAbout(rule, io) || !Touches(rule, offset, length)) continue;
    if (rule.error == 0) return std::nullopt;
    if (rule.once) {
      is_spent_[*at] = true;
      active_.erase(at);
    }
    return DebugFault{.error = rule.error, .immediately = rule.immediately};
  }
  return std::nullopt;
}

}  // namespace ringcow
