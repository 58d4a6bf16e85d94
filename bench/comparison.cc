#include "bench/comparison.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/file_descriptor.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

// Each write of a writethrough image that allocates is durable when it is acknowledged: the others
// must promise as much.
uint32_t FlushEveryForOthers(const Case& a_case) {
  const bool flushes_each = a_case.writethrough() && a_case.workload.allocates();
  return flushes_each ? 1 : a_case.workload.flush_every;
}

// A raw file with holes would measure how the file system finds blocks; a ceiling has none.
Workload OnRaw(Workload workload) {
  if (workload.pattern == Workload::Pattern::kScattered) {
    workload.image_bytes = workload.places() * kBenchClusterBytes;
    workload.spacing = kBenchClusterBytes;
  }
  return workload;
}

}  // namespace

std::optional<double> Compared::qemu_best() const {
  if (!qemu_io_uring.has_value()) return qemu_native;
  return std::max(*qemu_io_uring, qemu_native.value_or(0));
}

Comparison::Comparison(Rings& rings, const ThrowAwayDirectory& directory,
                       std::optional<QemuImg> checker, std::optional<QemuImg> rival,
                       std::chrono::nanoseconds time_limit)
    : rings_(rings),
      checker_(std::move(checker)),
      rival_(std::move(rival)),
      time_limit_(time_limit),
      directory_(directory.path()),
      qcow2_path_(directory.File("image.qcow2")),
      raw_path_(directory.File("image.raw")) {}

absl::StatusOr<Compared> Comparison::Run(const Case& a_case, bool raw_first) {
  absl::StatusOr<Compared> compared = RunAll(a_case, raw_first);
  if (!compared.ok()) populated_.clear();  // nobody knows what the files hold
  return compared;
}

absl::StatusOr<Compared> Comparison::RunAll(const Case& a_case, bool raw_first) {
  if (a_case.workload.allocates()) {
    populated_.clear();
  } else {
    RETURN_IF_ERROR(Populate(a_case.workload));
  }
  if (a_case.workload.start == Workload::Start::kOverlay) {
    RETURN_IF_ERROR(PrepareBase(a_case.workload, a_case.workload.base));
  }
  if (a_case.workload.copies()) {
    RETURN_IF_ERROR(PrepareBase(a_case.workload, Workload::Base::kRaw));
  }
  Compared compared;
  if (raw_first) {
    ASSIGN_OR_RETURN(compared.raw, RunRaw(a_case));
  }
  ASSIGN_OR_RETURN(compared.ours, RunOurs(a_case));
  if (!raw_first) {
    ASSIGN_OR_RETURN(compared.raw, RunRaw(a_case));
  }
  RETURN_IF_ERROR(RunQemu(a_case, compared));
  return compared;
}

absl::StatusOr<Measured> Comparison::RunRaw(const Case& a_case) {
  const Workload workload = OnRaw(a_case.workload);
  if (workload.allocates()) RETURN_IF_ERROR(PrepareRaw(rings_, raw_path_, workload));
  Settle();
  RunOptions options;
  options.depth = a_case.depth;
  options.flush_every = FlushEveryForOthers(a_case);
  options.time_limit = time_limit_;
  ASSIGN_OR_RETURN(
      Measured measured,
      workload.copies()
          ? MeasureCopying(rings_, raw_path_, BasePath(Workload::Base::kRaw), workload, options)
          : MeasureRaw(rings_, raw_path_, workload, options));
  if (workload.allocates()) RemoveFile(raw_path_);
  return measured;
}

absl::StatusOr<Measured> Comparison::RunOurs(const Case& a_case) {
  if (a_case.workload.allocates()) {
    RETURN_IF_ERROR(PrepareQcow2(rings_, qcow2_path_, a_case.workload));
  }
  Settle();
  RunOptions options;
  options.depth = a_case.depth;
  options.flush_every = a_case.workload.flush_every;
  options.time_limit = time_limit_;
  ASSIGN_OR_RETURN(Measured measured, MeasureQcow2(rings_, qcow2_path_, a_case.workload,
                                                   a_case.open_options, options));
  RETURN_IF_ERROR(CheckQcow2(rings_, qcow2_path_));
  if (checker_.has_value()) RETURN_IF_ERROR(checker_->Check(qcow2_path_));
  if (a_case.workload.allocates()) RemoveFile(qcow2_path_);
  return measured;
}

absl::Status Comparison::RunQemu(const Case& a_case, Compared& compared) {
  if (!rival_.has_value()) return absl::OkStatus();
  const bool flushes_itself = a_case.writethrough() && a_case.workload.allocates();
  const uint32_t flush_every = flushes_itself ? 0 : a_case.workload.flush_every;
  if (!QemuCanExpress(a_case.workload, a_case.depth, flush_every)) return absl::OkStatus();

  absl::Status failure;
  for (const bool io_uring : {true, false}) {
    bool& has = io_uring ? qemu_has_io_uring_ : qemu_has_native_;
    if (!has) continue;
    const absl::StatusOr<double> rate =
        RunQemu(*rival_, a_case, compared.ours.run.requests, io_uring ? "io_uring" : "native");
    if (rate.ok()) {
      (io_uring ? compared.qemu_io_uring : compared.qemu_native) = *rate;
    } else {
      has = false;
      failure = rate.status();
      std::fprintf(stderr, "alloc_bench: without QEMU's %s: %s\n", io_uring ? "io_uring" : "native",
                   std::string(failure.message()).c_str());
    }
  }
  return compared.qemu_best().has_value() ? absl::OkStatus() : failure;
}

absl::StatusOr<double> Comparison::RunQemu(const QemuImg& qemu, const Case& a_case,
                                           uint64_t requests, const std::string& aio) {
  if (a_case.workload.allocates()) {
    RETURN_IF_ERROR(qemu.Prepare(qcow2_path_, a_case.workload, aio));
  }
  Settle();
  QemuImg::BenchOptions options;
  options.depth = a_case.depth;
  options.requests = requests;
  options.writethrough = a_case.writethrough() && a_case.workload.allocates();
  options.flush_every = options.writethrough ? 0 : a_case.workload.flush_every;
  options.aio = aio;
  ASSIGN_OR_RETURN(const double seconds, qemu.Bench(qcow2_path_, a_case.workload, options));
  if (a_case.workload.allocates()) RemoveFile(qcow2_path_);
  // It prints milliseconds.
  return static_cast<double>(requests) / std::max(seconds, 0.0005);
}

absl::Status Comparison::Populate(const Workload& workload) {
  const std::string wanted = absl::StrCat(workload.image_bytes, "/", workload.spacing);
  if (populated_ == wanted) return absl::OkStatus();
  populated_.clear();
  RemoveFile(raw_path_);
  RemoveFile(qcow2_path_);
  RETURN_IF_ERROR(PrepareRaw(rings_, raw_path_, OnRaw(workload)));
  RETURN_IF_ERROR(PrepareQcow2(rings_, qcow2_path_, workload));
  populated_ = wanted;
  return absl::OkStatus();
}

// Nobody writes to them, so they serve all runs until others are wanted.
absl::Status Comparison::PrepareBase(const Workload& workload, Workload::Base base) {
  uint64_t& bytes = bases_[base];
  if (bytes == workload.image_bytes) return absl::OkStatus();
  bytes = 0;
  Workload written = workload;
  written.start = Workload::Start::kPopulated;
  written.extended_l2 = false;
  RETURN_IF_ERROR(base == Workload::Base::kRaw ? PrepareRaw(rings_, BasePath(base), written)
                                               : PrepareQcow2(rings_, BasePath(base), written));
  bytes = workload.image_bytes;
  return absl::OkStatus();
}

std::string Comparison::BasePath(Workload::Base base) const {
  return absl::StrCat(directory_, "/", BaseName(base));
}

// The file system's own work for earlier runs (its journal, freed blocks) is not to be paid for by
// the next.
void Comparison::Settle() const {
  const FileDescriptor directory(open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() >= 0) syncfs(directory.get());
}

}  // namespace ringcow
