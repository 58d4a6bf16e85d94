#ifndef RINGCOW_QCOW2_BLKDEBUG_DEBUG_GROUP_H_
#define RINGCOW_QCOW2_BLKDEBUG_DEBUG_GROUP_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "qcow2/blkdebug/rules.h"

namespace ringcow {

inline constexpr absl::string_view kInjectErrorGroup = "inject-error";
inline constexpr absl::string_view kSetStateGroup = "set-state";

// A rule as it is written, in a config file or in options.
using DebugGroup = std::map<std::string, std::string>;

bool IsDebugGroup(absl::string_view name);
bool IsDebugKey(absl::string_view group, absl::string_view key);

// Adds the rule that the group called `name` is. All its keys are known. InvalidArgument in QEMU's
// words for values that mean nothing.
absl::Status AddDebugRule(absl::string_view name, const DebugGroup& group, DebugRules& rules);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_BLKDEBUG_DEBUG_GROUP_H_
