#ifndef RINGCOW_BENCH_SUBJECT_H_
#define RINGCOW_BENCH_SUBJECT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/runner.h"
#include "bench/workload.h"
#include "engine/counters.h"
#include "engine/disk.h"
#include "engine/rings.h"
#include "engine/task.h"
#include "qcow2/image.h"

namespace ringcow {

// What is measured through our engine: a qcow2 image, and a raw file as the ceiling that the host's
// storage and the engine set together. All of it runs on the loop of `rings`, to the end.

// One run, and what the host was asked to do in it.
struct Measured {
  RunResult run;
  DiskCounters disk;
  RingCounters rings;
};

// Makes the file that the workload starts from, durable; replaces what is there.
//   allocating: the qcow2 image as Workload::Start says (an overlay's backing file is there
//   already); the raw file with all its space allocated by fallocate and never written (written out
//   where the file system has no fallocate), so that neither it nor what it is compared with has
//   blocks to find while it is measured.
//   else: both with every place of the workload written.
absl::Status PrepareQcow2(Rings& rings, const std::string& path, const Workload& workload);
absl::Status PrepareRaw(Rings& rings, const std::string& path, const Workload& workload);

// The same for an image on any disk.
Task<absl::Status> MakeQcow2(Disk& disk, Workload workload);

// Opens the file anew, an image with its backing file, runs the workload, closes it. Opening,
// warming up, closing and its last flush are not part of what is measured; what a backing file is
// asked for is.
absl::StatusOr<Measured> MeasureQcow2(Rings& rings, const std::string& path,
                                      const Workload& workload, const OpenOptions& open_options,
                                      const RunOptions& run_options);
absl::StatusOr<Measured> MeasureRaw(Rings& rings, const std::string& path, const Workload& workload,
                                    const RunOptions& run_options);
// Each write brings its cluster along from the raw file `base` (see CopyingDisk).
absl::StatusOr<Measured> MeasureCopying(Rings& rings, const std::string& path,
                                        const std::string& base, const Workload& workload,
                                        const RunOptions& run_options);

// DataLoss, with the first findings, when our check finds errors or leaks.
absl::Status CheckQcow2(Rings& rings, const std::string& path);
absl::Status CheckQcow2(Disk& disk);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_SUBJECT_H_
