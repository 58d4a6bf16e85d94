#include "bench/catalog.h"

#include <algorithm>
#include <array>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/invariant.h"

namespace ringcow {
namespace {

using Start = Workload::Start;
using Pattern = Workload::Pattern;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kFreshBytes = 512 * kMiB;
constexpr uint64_t kPopulatedBytes = 256 * kMiB;
// What one L2 slice of 4 KiB maps with 64 KiB clusters.
constexpr uint64_t kColdSpacing = 32 * kMiB;
constexpr uint64_t kColdPlaces = 4096;

// With a flush for each write a disk makes a thousand or two a second.
constexpr uint64_t kDurableRequests = 1024;
constexpr uint64_t kMixRequests = 2048;

Workload Fresh(absl::string_view name, Pattern pattern, uint32_t request_bytes, uint64_t requests) {
  Workload workload;
  workload.name = std::string(name);
  workload.pattern = pattern;
  workload.request_bytes = request_bytes;
  workload.image_bytes = kFreshBytes;
  workload.requests = requests;
  return workload;
}

Workload Allocated(absl::string_view name, Start start, bool reads) {
  Workload workload;
  workload.name = std::string(name);
  workload.pattern = Pattern::kScattered;
  workload.start = start;
  workload.reads = reads;
  const bool is_cold = start == Start::kCold;
  workload.spacing = is_cold ? kColdSpacing : kBenchClusterBytes;
  workload.image_bytes = is_cold ? kColdSpacing * kColdPlaces : kPopulatedBytes;
  workload.requests = is_cold ? kColdPlaces : 32768;
  return workload;
}

// What a write has to copy is 256 MiB of written bytes.
Workload CopyingOnWrite(absl::string_view name, Start start) {
  Workload workload = Fresh(name, Pattern::kScattered, 4096, kPopulatedBytes / kBenchClusterBytes);
  workload.start = start;
  workload.image_bytes = kPopulatedBytes;
  return workload;
}

Workload Flushing(Workload workload, uint32_t flush_every) {
  absl::StrAppend(&workload.name, "/flush:", flush_every);
  workload.flush_every = flush_every;
  if (flush_every == 1) workload.requests = kDurableRequests;
  return workload;
}

absl::string_view ModeName(CacheMode mode) {
  return mode == CacheMode::kWriteback ? "writeback" : "writethrough";
}

absl::string_view FormName(PlanForm form) {
  switch (form) {
    case PlanForm::kAuto:
      return "auto";
    case PlanForm::kChain:
      return "chain";
    case PlanForm::kStages:
      return "stages";
    case PlanForm::kDurable:
      return "durable";
  }
  return "";
}

Workload Sized(const Workload& workload, CacheMode mode, const CatalogOptions& options) {
  if (options.requests.has_value()) return WithRequests(workload, *options.requests);
  uint64_t requests = workload.requests;
  if (mode == CacheMode::kWritethrough && workload.allocates()) {
    requests = std::min(requests, kDurableRequests);
  }
  // Whole rounds of flushes, as many as there are.
  return WithRequests(workload, std::max<uint64_t>(requests / options.divisor, 64));
}

void AddOnce(std::vector<Case>& cases, const Case& a_case) {
  const auto has_its_name = [&](const Case& other) { return other.name == a_case.name; };
  if (std::none_of(cases.begin(), cases.end(), has_its_name)) cases.push_back(a_case);
}

Case WithRemark(Case a_case, absl::string_view remark) {
  absl::StrAppend(&a_case.remark, a_case.remark.empty() ? "" : " ", remark);
  absl::StrAppend(&a_case.name, "/", remark);
  return a_case;
}

void Add(std::vector<Case>& cases, const Workload& workload, uint32_t depth, CacheMode mode,
         const CatalogOptions& options) {
  std::vector<PlanForm> forms = options.forms;
  if (forms.empty()) forms = {options.open_options.write_back.form};
  for (const PlanForm form : forms) {
    Case a_case;
    a_case.workload = Sized(workload, mode, options);
    a_case.depth = depth;
    a_case.open_options = options.open_options;
    a_case.open_options.write_back.mode = mode;
    a_case.open_options.write_back.form = form;
    a_case.name = absl::StrCat(workload.name, "/qd:", depth, "/", ModeName(mode));
    if (forms.size() > 1) a_case = WithRemark(a_case, absl::StrCat("plan:", FormName(form)));
    AddOnce(cases, a_case);
    for (const Variant& variant : options.variants) {
      Case another = WithRemark(a_case, variant.remark);
      variant.apply(another.open_options);
      AddOnce(cases, another);
    }
  }
}

void AddAll(std::vector<Case>& cases, const Workload& workload, std::vector<uint32_t> depths,
            std::vector<CacheMode> modes, const CatalogOptions& options) {
  if (!options.depths.empty()) depths = options.depths;
  if (!options.modes.empty()) modes = options.modes;
  for (const CacheMode mode : modes) {
    for (const uint32_t depth : depths) Add(cases, workload, depth, mode, options);
  }
}

}  // namespace

std::optional<Variant> Without(absl::string_view what) {
  const std::string remark = absl::StrCat("without:", what);
  if (what == "reserve") {
    return Variant{remark, [](OpenOptions& options) { options.reserve_refcounts = false; }};
  }
  if (what == "record") {
    return Variant{remark, [](OpenOptions& options) { options.record_reserve = false; }};
  }
  if (what == "zeroes") {
    return Variant{remark, [](OpenOptions& options) { options.write_zeroes_ahead = false; }};
  }
  if (what == "early") {
    return Variant{remark, [](OpenOptions& options) { options.enter_zero_clusters_early = false; }};
  }
  if (what == "growth") {
    return Variant{remark, [](OpenOptions& options) { options.grow_ahead = false; }};
  }
  if (what == "neighbours") {
    return Variant{remark, [](OpenOptions& options) { options.cache_read_bytes = 0; }};
  }
  return std::nullopt;
}

std::vector<Workload> AllWorkloads() {
  const std::array<Workload, 4> plain = {
      Fresh("sequential_64k", Pattern::kSequential, 65536, kFreshBytes / 65536),
      Fresh("sequential_4k", Pattern::kSequential, 4096, 32768),
      Fresh("scattered_64k", Pattern::kScattered, 65536, kFreshBytes / 65536),
      Fresh("scattered_4k", Pattern::kScattered, 4096, kFreshBytes / kBenchClusterBytes),
  };
  std::vector<Workload> all(plain.begin(), plain.end());
  for (const uint32_t flush_every : {64, 1}) {
    for (const Workload& workload : plain) all.push_back(Flushing(workload, flush_every));
  }
  all.push_back(Fresh("install_mix", Pattern::kInstallMix, 4096, kMixRequests));
  all.push_back(CopyingOnWrite("overlay_4k", Start::kOverlay));
  all.push_back(CopyingOnWrite("overlay_4k/qcow2_base", Start::kOverlay));
  all.back().base = Workload::Base::kQcow2;
  all.push_back(CopyingOnWrite("overlay_4k/extended_l2", Start::kOverlay));
  all.back().extended_l2 = true;
  all.push_back(CopyingOnWrite("after_snapshot_4k", Start::kSnapshot));
  all.push_back(Allocated("overwrite_4k_hot", Start::kPopulated, /*reads=*/false));
  all.push_back(Allocated("read_4k_hot", Start::kPopulated, /*reads=*/true));
  all.push_back(Allocated("overwrite_4k_cold", Start::kCold, /*reads=*/false));
  all.push_back(Allocated("read_4k_cold", Start::kCold, /*reads=*/true));
  return all;
}

Workload NamedWorkload(absl::string_view name) {
  for (Workload& workload : AllWorkloads()) {
    if (workload.name == name) return std::move(workload);
  }
  RINGCOW_INVARIANT(false, "workloads are named by constants");
}

void AddCases(std::vector<Case>& cases, absl::string_view workload, uint32_t depth, CacheMode mode,
              const CatalogOptions& options) {
  AddAll(cases, NamedWorkload(workload), {depth}, {mode}, options);
}

std::vector<Case> FullMatrix(const CatalogOptions& options) {
  std::vector<Case> cases;
  for (const Workload& workload : AllWorkloads()) {
    AddAll(cases, workload, {1, 16, 64}, {CacheMode::kWriteback, CacheMode::kWritethrough},
           options);
  }
  for (Case& a_case : ShortList(options)) {
    const auto is_same = [&](const Case& other) { return other.name == a_case.name; };
    if (std::none_of(cases.begin(), cases.end(), is_same)) cases.push_back(std::move(a_case));
  }
  return cases;
}

std::vector<Case> ShortList(const CatalogOptions& options) {
  struct Row {
    absl::string_view workload;
    uint32_t depth = 1;
    CacheMode mode = CacheMode::kWriteback;
  };
  constexpr Row kRows[] = {
      {"sequential_64k", 16},
      {"sequential_4k", 16},
      {"scattered_64k", 32},
      {"scattered_4k", 1},
      {"scattered_4k", 32},
      {"scattered_4k", 32, CacheMode::kWritethrough},
      {"scattered_4k/flush:64", 32},
      {"scattered_4k/flush:1", 1},
      {"scattered_4k/flush:1", 64},
      {"install_mix", 16},
      {"overlay_4k", 32},
      {"overlay_4k/extended_l2", 32},
      {"after_snapshot_4k", 32},
      {"overwrite_4k_hot", 32},
      {"read_4k_hot", 64},
      {"read_4k_cold", 64},
  };
  std::vector<Case> cases;
  for (const Row& row : kRows) AddCases(cases, row.workload, row.depth, row.mode, options);
  return cases;
}

}  // namespace ringcow
