#include "bench/subject.h"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/copying_disk.h"
#include "engine/status_macros.h"
#include "engine/uring_disk.h"
#include "qcow2/check.h"
#include "qcow2/create.h"
#include "qcow2/format/snapshot_table.h"
#include "qcow2/image_chain.h"
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

Task<absl::Status> Populate(Loop& loop, GuestDisk& disk, const Workload& workload) {
  const std::vector<GuestOp> ops = PopulatingOps(workload);
  co_return (co_await RunOps(loop, disk, ops, {.depth = kPopulateDepth})).status();
}

Task<absl::Status> MakeRaw(Disk& disk, const Workload& workload) {
  CO_RETURN_IF_ERROR(co_await disk.Truncate(workload.image_bytes));
  if (workload.allocates()) {
    const absl::Status allocated = co_await disk.Allocate(HostOffset(0), workload.image_bytes);
    if (allocated.ok()) co_return co_await disk.Fdatasync();
    if (!absl::IsUnimplemented(allocated)) co_return allocated;
  }
  RawImage raw(disk, /*read_only=*/false);
  CO_RETURN_IF_ERROR(co_await Populate(disk.loop(), raw, workload));
  co_return co_await raw.Close();
}

void Add(const DiskCounters& more, DiskCounters& sum) {
  for (size_t i = 0; i < kContents; ++i) {
    sum.by_content[i].reads += more.by_content[i].reads;
    sum.by_content[i].read_bytes += more.by_content[i].read_bytes;
    sum.by_content[i].writes += more.by_content[i].writes;
    sum.by_content[i].written_bytes += more.by_content[i].written_bytes;
  }
  sum.fsyncs += more.fsyncs;
  sum.allocations += more.allocations;
  sum.truncates += more.truncates;
  sum.chains += more.chains;
  sum.drains += more.drains;
  sum.bounced += more.bounced;
}

// `layers`: the disk itself, then its backing files. Closes none of them.
Task<absl::StatusOr<Measured>> MeasureOn(Rings& rings, std::vector<GuestDisk*> layers,
                                         const Workload& workload, RunOptions options) {
  GuestDisk& disk = *layers.front();
  const std::vector<GuestOp> ops = MakeOps(workload);
  const std::span<const GuestOp> all = ops;
  if (workload.start == Workload::Start::kPopulated) {
    const auto warm_up = all.first(std::min(all.size(), kWarmUpOps));
    CO_RETURN_IF_ERROR(
        (co_await RunOps(rings.loop(), disk, warm_up, {.depth = options.depth})).status());
  }

  options.rings = &rings;
  rings.ResetCounters();
  for (GuestDisk* layer : layers) layer->ResetCounters();
  Measured measured;
  CO_ASSIGN_OR_RETURN(measured.run, co_await RunOps(rings.loop(), disk, all, options));
  for (const GuestDisk* layer : layers) Add(layer->counters(), measured.disk);
  measured.rings = rings.counters();
  co_return measured;
}

Task<absl::StatusOr<Measured>> OpenAndMeasureQcow2(Rings& rings, const std::string& path,
                                                   const Workload& workload,
                                                   OpenOptions open_options,
                                                   RunOptions run_options) {
  ImageChainOptions options;
  options.file.format = "qcow2";
  options.image = std::move(open_options);
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                      co_await ImageChain::Open(rings, path, std::move(options)));
  std::vector<GuestDisk*> layers;
  for (const ImageChain::Layer& layer : chain->layers()) layers.push_back(layer.guest.get());
  CO_ASSIGN_OR_RETURN(Measured measured,
                      co_await MeasureOn(rings, std::move(layers), workload, run_options));
  CO_RETURN_IF_ERROR(co_await chain->Close());
  co_return measured;
}

// `layers` as for MeasureOn.
Task<absl::StatusOr<Measured>> MeasureAndClose(Rings& rings, std::vector<GuestDisk*> layers,
                                               const Workload& workload, RunOptions options) {
  CO_ASSIGN_OR_RETURN(Measured measured, co_await MeasureOn(rings, layers, workload, options));
  for (GuestDisk* layer : layers) CO_RETURN_IF_ERROR(co_await layer->Close());
  co_return measured;
}

}  // namespace

Task<absl::Status> MakeQcow2(Disk& disk, Workload workload) {
  CreateOptions options;
  options.virtual_size = workload.image_bytes;
  options.cluster_size = kBenchClusterBytes;
  options.extended_l2 = workload.extended_l2;
  if (workload.start == Workload::Start::kOverlay) {
    options.backing_file = BaseName(workload.base);
    options.backing_format = workload.base == Workload::Base::kRaw ? "raw" : "qcow2";
  }
  CO_RETURN_IF_ERROR(co_await CreateImage(disk, options));
  const bool has_snapshot = workload.start == Workload::Start::kSnapshot;
  if (workload.allocates() && !has_snapshot) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<Image> image,
                      co_await Image::Open(disk, OpenOptions()));
  CO_RETURN_IF_ERROR(co_await Populate(disk.loop(), *image, workload));
  if (has_snapshot) {
    Snapshot snapshot;
    snapshot.name = "before";
    CO_RETURN_IF_ERROR(co_await image->CreateSnapshot(std::move(snapshot)));
  }
  co_return co_await image->Close();
}

absl::Status PrepareQcow2(Rings& rings, const std::string& path, const Workload& workload) {
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk, OpenEmpty(rings, path));
  return rings.loop().Run(MakeQcow2(*disk, workload));
}

absl::Status PrepareRaw(Rings& rings, const std::string& path, const Workload& workload) {
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk, OpenEmpty(rings, path));
  return rings.loop().Run(MakeRaw(*disk, workload));
}

absl::StatusOr<Measured> MeasureQcow2(Rings& rings, const std::string& path,
                                      const Workload& workload, const OpenOptions& open_options,
                                      const RunOptions& run_options) {
  return rings.loop().Run(OpenAndMeasureQcow2(rings, path, workload, open_options, run_options));
}

absl::StatusOr<Measured> MeasureRaw(Rings& rings, const std::string& path, const Workload& workload,
                                    const RunOptions& run_options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk, UringDisk::Open(rings, path));
  RawImage raw(*disk, /*read_only=*/false);
  return rings.loop().Run(MeasureAndClose(rings, {&raw}, workload, run_options));
}

absl::StatusOr<Measured> MeasureCopying(Rings& rings, const std::string& path,
                                        const std::string& base, const Workload& workload,
                                        const RunOptions& run_options) {
  UringDisk::Options read_only;
  read_only.read_only = true;
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> from, UringDisk::Open(rings, base, read_only));
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> to, UringDisk::Open(rings, path));
  RawImage raw_base(*from, /*read_only=*/true);
  CopyingDisk raw(std::make_unique<RawImage>(*to, /*read_only=*/false), raw_base);
  return rings.loop().Run(MeasureAndClose(rings, {&raw, &raw_base}, workload, run_options));
}

absl::Status CheckQcow2(Rings& rings, const std::string& path) {
  UringDisk::Options options;
  options.read_only = true;
  ASSIGN_OR_RETURN(const std::unique_ptr<UringDisk> disk, UringDisk::Open(rings, path, options));
  return CheckQcow2(*disk);
}

absl::Status CheckQcow2(Disk& disk) {
  size_t findings = 0;
  std::string first_findings;
  CheckOptions check_options;
  check_options.report = [&](absl::string_view line) {
    if (++findings <= kFindingsShown) absl::StrAppend(&first_findings, "\n  ", line);
  };
  ASSIGN_OR_RETURN(const CheckResult result,
                   disk.loop().Run(CheckImage(disk, std::move(check_options))));
  if (result.is_clean()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("'", disk.name(), "' is not clean: ", result.corruptions,
                                          " corruptions, ", result.leaks, " leaks, ",
                                          result.check_errors, " check errors", first_findings));
}

}  // namespace ringcow
