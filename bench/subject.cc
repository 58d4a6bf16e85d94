#include "bench/subject.h"

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "engine/uring_disk.h"
#include "qcow2/check.h"
#include "qcow2/create.h"
#include "qcow2/raw_image.h"

namespace ringcow {
namespace {

constexpr uint64_t kPopulateBytes = uint64_t{1} << 20;  // of one write
constexpr uint32_t kPopulateDepth = 16;
constexpr size_t kWarmUpOps = 256;
constexpr size_t kFindingsShown = 5;

absl::StatusOr<std::unique_ptr<UringDisk>> OpenEmpty(Rings& rings, const std::string& path) {
  UringDisk::Options options;
  options.creation = UringDisk::Creation::kIfMissing;
  options.truncate = true;
  return UringDisk::Open(rings, path, options);
}

// Every byte of the image, or, where places are far apart, the cluster at each.
std::vector<GuestOp> PopulatingOps(const Workload& workload) {
  const bool is_dense = workload.spacing <= kPopulateBytes;
  const uint64_t distance = is_dense ? kPopulateBytes : workload.spacing;
  const uint64_t length = is_dense ? kPopulateBytes : kBenchClusterBytes;
  std::vector<GuestOp> ops;
  for (uint64_t offset = 0; offset < workload.image_bytes; offset += distance) {
    const uint64_t rest = workload.image_bytes - offset;
    ops.push_back({GuestOp::Kind::kWrite, GuestOffset(offset),
                   static_cast<uint32_t>(std::min(length, rest))});
  }
  return ops;
}

Task<absl::Status> Populate(Rings& rings, GuestDisk& disk, const Workload& workload) {
  const std::vector<GuestOp> ops = PopulatingOps(workload);
  CO_RETURN_IF_ERROR(
      (co_await RunOps(rings.loop(), disk, ops, {.depth = kPopulateDepth})).status());
  co_return co_await disk.Close();
}

Task<absl::Status> MakeQcow2(Rings& rings, UringDisk& disk, const Workload& workload) {
  CreateOptions options;
  options.virtual_size = workload.image_bytes;
  options.cluster_size = kBenchClusterBytes;
  CO_RETURN_IF_ERROR(co_await CreateImage(disk, options));
  if (workload.allocates()) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<Image> image,
                      co_await Image::Open(disk, OpenOptions()));
  co_return co_await Populate(rings, *image, workload);
}

Task<absl::Status> MakeRaw(Rings& rings, UringDisk& disk, const Workload& workload) {
  CO_RETURN_IF_ERROR(co_await disk.Truncate(workload.image_bytes));
  if (workload.allocates()) {
    const absl::Status allocated = co_await disk.Allocate(HostOffset(0), workload.image_bytes);
    if (allocated.ok()) co_return co_await disk.Fdatasync();
    if (!absl::IsUnimplemented(allocated)) co_return allocated;
  }
  RawImage raw(disk, /*read_only=*/false);
  co_return co_await Populate(rings, raw, workload);
}

Task<absl::StatusOr<Measured>> MeasureOn(Rings& rings, GuestDisk& disk, const Workload& workload,
                                         RunOptions options) {
  const std::vector<GuestOp> ops = MakeOps(workload);
  const std::span<const GuestOp> all = ops;
  if (workload.start == Workload::Start::kPopulated) {
    const auto warm_up = all.first(std::min(all.size(), kWarmUpOps));
    CO_RETURN_IF_ERROR(
        (co_await RunOps(rings.loop(), disk, warm_up, {.depth = options.depth})).status());
  }

  rings.ResetCounters();
  disk.ResetCounters();
  Measured measured;
  CO_ASSIGN_OR_RETURN(measured.run, co_await RunOps(rings.loop(), disk, all, options));
  measured.disk = disk.counters();
  measured.rings = rings.counters();

  CO_RETURN_IF_ERROR(co_await disk.Close());
  co_return measured;
}

Task<absl::StatusOr<Measured>> OpenAndMeasure(Rings& rings, UringDisk& disk,
                                              const Workload& workload, OpenOptions open_options,
                                              RunOptions run_options) {
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<Image> image, co_await Image::Open(disk, open_options));
  co_return co_await MeasureOn(rings, *image, workload, run_options);
}

}  // namespace

absl::Status PrepareQcow2(Rings& rings, const std::string& path, const Workload& workload) {
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk, OpenEmpty(rings, path));
  return rings.loop().Run(MakeQcow2(rings, *disk, workload));
}

absl::Status PrepareRaw(Rings& rings, const std::string& path, const Workload& workload) {
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk, OpenEmpty(rings, path));
  return rings.loop().Run(MakeRaw(rings, *disk, workload));
}

absl::StatusOr<Measured> MeasureQcow2(Rings& rings, const std::string& path,
                                      const Workload& workload, const OpenOptions& open_options,
                                      const RunOptions& run_options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk, UringDisk::Open(rings, path));
  return rings.loop().Run(OpenAndMeasure(rings, *disk, workload, open_options, run_options));
}

absl::StatusOr<Measured> MeasureRaw(Rings& rings, const std::string& path, const Workload& workload,
                                    const RunOptions& run_options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk, UringDisk::Open(rings, path));
  RawImage raw(*disk, /*read_only=*/false);
  return rings.loop().Run(MeasureOn(rings, raw, workload, run_options));
}

absl::Status CheckQcow2(Rings& rings, const std::string& path) {
  UringDisk::Options options;
  options.read_only = true;
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk, UringDisk::Open(rings, path, options));
  size_t findings = 0;
  std::string first_findings;
  CheckOptions check_options;
  check_options.report = [&](absl::string_view line) {
    if (++findings <= kFindingsShown) absl::StrAppend(&first_findings, "\n  ", line);
  };
  ASSIGN_OR_RETURN(const CheckResult result,
                   rings.loop().Run(CheckImage(*disk, std::move(check_options))));
  if (result.is_clean()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("'", path, "' is not clean: ", result.corruptions,
                                          " corruptions, ", result.leaks, " leaks, ",
                                          result.check_errors, " check errors", first_findings));
}

}  // namespace ringcow
