#ifndef RINGCOW_BENCH_CATALOG_H_
#define RINGCOW_BENCH_CATALOG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "bench/comparison.h"
#include "bench/workload.h"
#include "qcow2/image.h"

namespace ringcow {

// What an image is opened with besides the defaults, for a case's name and remark.
struct Variant {
  std::string remark;  // "without:reserve"
  void (*apply)(OpenOptions& options) = nullptr;
};

// The kinds of work ahead and what else OpenOptions can switch off: "reserve", "zeroes", "early",
// "growth", "neighbours". Nothing for another word.
std::optional<Variant> Without(absl::string_view what);

// What the command line can change about the cases. Empty vectors: each case's own.
struct CatalogOptions {
  std::vector<uint32_t> depths;
  std::vector<CacheMode> modes;
  std::vector<PlanForm> forms;       // each case once for each; named in it when there are several
  std::vector<Variant> variants;     // each case as it is, and once more for each
  OpenOptions open_options;          // of all images
  std::optional<uint64_t> requests;  // of each run
  uint64_t divisor = 1;              // else: each run's usual number divided by it
};

// Every workload there is.
std::vector<Workload> AllWorkloads();

// The one of this name, which there is.
Workload NamedWorkload(absl::string_view name);

// The case of a workload at a depth in a mode, or those that `options` make of it.
void AddCases(std::vector<Case>& cases, absl::string_view workload, uint32_t depth, CacheMode mode,
              const CatalogOptions& options);

// All workloads at queue depth 1, 16 and 64 in both modes, and ShortList.
std::vector<Case> FullMatrix(const CatalogOptions& options);

// The most telling ones: what is done within a minute.
std::vector<Case> ShortList(const CatalogOptions& options);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_CATALOG_H_
