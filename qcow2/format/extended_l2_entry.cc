#include "qcow2/format/extended_l2_entry.h"

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "engine/status_macros.h"

namespace ringcow {

absl::Status ExtendedL2Entry::Validate(const Geometry& geometry, HostOffset l2_table,
                                       uint64_t l2_index) const {
  if (IsValid(geometry)) return absl::OkStatus();
  RETURN_IF_ERROR(entry_.Validate(geometry, l2_table, l2_index));
  const absl::string_view problem = compressed() ? "belongs to a compressed cluster"
                                    : !bitmap_.IsValid()
                                        ? "has subclusters that are both allocated and zero"
                                        : "has allocated subclusters without a host cluster";
  return absl::InvalidArgumentError(
      absl::StrFormat("Subcluster allocation bitmap %#x %s (L2 offset: %#x, L2 index: %#x)",
                      bitmap_.raw(), problem, l2_table.value(), l2_index));
}

}  // namespace ringcow
