#include "bench/description.h"

#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ringcow {
namespace {

using Start = Workload::Start;
using Pattern = Workload::Pattern;

absl::string_view Verb(const Workload& workload) {
  if (workload.reads) return "reads";
  return workload.allocates() ? "writes" : "overwrites";
}

std::string Where(const Workload& workload) {
  switch (workload.start) {
    case Start::kFresh:
      return ", fresh image";
    case Start::kOverlay:
      return absl::StrCat(" into an overlay of a ",
                          workload.base == Workload::Base::kRaw ? "raw" : "qcow2", " file",
                          workload.extended_l2 ? ", extended L2" : "");
    case Start::kSnapshot:
      return " after a snapshot";
    case Start::kPopulated:
      return ", allocated image";
    case Start::kCold:
      return ", allocated image, cold L2 cache";
  }
  return "";
}

std::string Flushes(const Workload& workload) {
  if (workload.flush_every == 0) return "";
  if (workload.flush_every == 1) return ", a flush each";
  return absl::StrCat(", a flush every ", workload.flush_every);
}

}  // namespace

std::string Describe(const Workload& workload) {
  if (workload.pattern == Pattern::kInstallMix) return "what installing a system writes";
  return absl::StrCat(workload.pattern == Pattern::kSequential ? "sequential " : "scattered ",
                      workload.request_bytes / 1024, " KiB ", Verb(workload), Where(workload),
                      Flushes(workload));
}

std::string WithCommas(double value) {
  std::string digits = absl::StrCat(std::llround(value));
  for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

}  // namespace ringcow
