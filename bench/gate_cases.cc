#include "bench/gate_cases.h"

#include <bit>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "bench/catalog.h"

namespace ringcow {
namespace {

struct Row {
  absl::string_view workload;
  uint32_t depth = 1;
  uint64_t requests = 0;
};

// As many places as requests, so that nothing is prepared that is not used; a mix needs room.
Workload Small(Workload workload, uint64_t requests) {
  workload.requests = requests;
  if (workload.pattern == Workload::Pattern::kInstallMix) return workload;
  const bool is_scattered = workload.pattern == Workload::Pattern::kScattered;
  workload.image_bytes =
      std::bit_ceil(requests * (is_scattered ? workload.spacing : workload.request_bytes));
  return workload;
}

std::vector<Case> Cases(std::span<const Row> rows) {
  std::vector<Case> cases;
  for (const Row& row : rows) {
    Case a_case;
    a_case.workload = Small(NamedWorkload(row.workload), row.requests);
    a_case.depth = row.depth;
    a_case.name = absl::StrCat(row.workload, "/qd:", row.depth);
    cases.push_back(std::move(a_case));
  }
  return cases;
}

}  // namespace

std::vector<Case> GateCases() {
  constexpr Row kRows[] = {
      {"sequential_64k", 16, 1024},
      {"sequential_4k", 16, 4096},
      {"scattered_64k", 32, 1024},
      {"scattered_4k", 1, 512},
      {"scattered_4k", 32, 2048},
      {"scattered_4k/flush:64", 32, 1024},
      {"scattered_4k/flush:1", 1, 256},
      {"install_mix", 1, 512},
      {"overlay_4k", 32, 512},
      {"overlay_4k/qcow2_base", 32, 512},
      {"overlay_4k/extended_l2", 32, 512},
      {"after_snapshot_4k", 32, 512},
      {"overwrite_4k_hot", 32, 2048},
      {"read_4k_hot", 64, 2048},
      {"read_4k_cold", 64, 512},
  };
  return Cases(kRows);
}

std::vector<Case> InstructionCases() {
  constexpr Row kRows[] = {
      {"sequential_4k", 16, 4096},         {"scattered_4k", 32, 4096},
      {"scattered_4k/flush:64", 32, 2048}, {"scattered_4k/flush:1", 1, 512},
      {"after_snapshot_4k", 32, 1024},     {"overwrite_4k_hot", 32, 4096},
      {"read_4k_hot", 64, 4096},           {"read_4k_cold", 64, 1024},
  };
  return Cases(kRows);
}

}  // namespace ringcow
