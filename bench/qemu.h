#ifndef RINGCOW_BENCH_QEMU_H_
#define RINGCOW_BENCH_QEMU_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "bench/workload.h"

namespace ringcow {

// The installed qemu-img: its own in-process benchmark for comparison, its check as a judge.
class QemuImg {
 public:
  // Nothing when there is none.
  static std::optional<QemuImg> Find();

  const std::string& version() const { return version_; }  // "10.0.2"

  // Makes the image that a workload which allocates starts from, as PrepareQcow2 does for ours; the
  // backing file is there already. `aio` as in BenchOptions.
  absl::Status Prepare(const std::string& path, const Workload& workload,
                       const std::string& aio) const;

  struct BenchOptions {
    uint32_t depth = 1;
    uint32_t flush_every = 0;
    uint64_t requests = 0;
    bool writethrough = false;  // each write durable when it is acknowledged (-t directsync)
    std::string aio;            // "io_uring" or "native"
  };
  // Seconds that the workload's requests took on the qcow2 image at `path`. The first
  // options.requests of them.
  absl::StatusOr<double> Bench(const std::string& path, const Workload& workload,
                               const BenchOptions& options) const;

  // DataLoss, with what the check printed, when the image has errors or leaks.
  absl::Status Check(const std::string& path) const;

 private:
  explicit QemuImg(std::string version) : version_(std::move(version)) {}

  std::string version_;
};

// Whether qemu-img bench can make these requests. It makes equal ones at equal distances, and
// with a flush it first waits for all requests under way, so flushes cannot come more often than
// the queue depth.
bool QemuCanExpress(const Workload& workload, uint32_t depth, uint32_t flush_every);

// A fresh image or overlay.
std::vector<std::string> QemuCreateCommand(const std::string& path, const Workload& workload);
std::vector<std::string> QemuBenchCommand(const std::string& path, const Workload& workload,
                                          const QemuImg::BenchOptions& options);

// "qemu-img version 10.0.2 (Debian 1:10.0.2…)\n…" -> "10.0.2"
std::optional<std::string> ParseQemuVersion(absl::string_view output);
// "…\nRun completed in 0.122 seconds.\n" -> 0.122
std::optional<double> ParseQemuBenchSeconds(absl::string_view output);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_QEMU_H_
