#include "absl/strings/string_view.h"
#include "qcow2/blkdebug/options.h"
#include "qcow2/blkdebug/rules.h"
#include "tests/fuzz/targets.h"

namespace ringcow {

void FuzzBlkdebugConfig(std::span<const std::byte> input) {
  const absl::string_view text(reinterpret_cast<const char*>(input.data()), input.size());
  const absl::StatusOr<DebugRules> rules = ParseDebugConfig(text);
  if (!rules.ok()) return;
  DebugMachine machine(*rules);
  for (const InjectError& rule : rules->inject_errors) {
    FUZZ_EXPECT(rule.error >= 0);
    machine.Happened(rule.event);
    const DebugIo io = rule.io.value_or(DebugIo::kRead);
    (void)machine.FaultOf(io, rule.offset.value_or(0), 1);
  }
  // Each rule that is over after one failure is over.
  size_t once = 0;
  for (const InjectError& rule : rules->inject_errors) once += rule.once ? 1 : 0;
  size_t failures = 0;
  while (once == rules->inject_errors.size() && machine.FaultOf(DebugIo::kRead, 0, 1).has_value()) {
    FUZZ_EXPECT(++failures <= once);
  }
}

}  // namespace ringcow
