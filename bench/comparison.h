#ifndef RINGCOW_BENCH_COMPARISON_H_
#define RINGCOW_BENCH_COMPARISON_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/qemu.h"
#include "bench/subject.h"
#include "bench/throw_away_directory.h"
#include "bench/workload.h"
#include "engine/rings.h"
#include "qcow2/image.h"

namespace ringcow {

// A workload at a queue depth, and how our image is opened for it.
struct Case {
  Workload workload;
  uint32_t depth = 1;
  OpenOptions open_options;
  std::string name;    // unique; "scattered_4k/flush:64/qd:32/writeback"
  std::string remark;  // what sets it apart from its like; "plan:chain"

  bool writethrough() const { return open_options.write_back.mode == CacheMode::kWritethrough; }
};

// One run of a case by everybody, close together in time, so that the drift of a machine shared
// with others falls out of their ratios.
struct Compared {
  Measured ours;
  Measured raw;  // the ceiling: with the same copying, where a write has to copy
  // Requests per second; nothing where QEMU was not asked, cannot express the workload, or is
  // built without that interface.
  std::optional<double> qemu_io_uring;
  std::optional<double> qemu_native;

  std::optional<double> qemu_best() const;
};

class Comparison {
 public:
  // `rings` and `directory` outlive it. `checker`: judges our images too. `rival`: is measured.
  Comparison(Rings& rings, const ThrowAwayDirectory& directory, std::optional<QemuImg> checker,
             std::optional<QemuImg> rival, std::chrono::nanoseconds time_limit);

  // `raw_first`: before ours; to be changed from run to run. DataLoss when the image is not clean
  // afterwards. Leaves no file behind but populated ones, for the next case that uses them.
  absl::StatusOr<Compared> Run(const Case& a_case, bool raw_first);

 private:
  absl::StatusOr<Compared> RunAll(const Case& a_case, bool raw_first);
  absl::StatusOr<Measured> RunRaw(const Case& a_case);
  absl::StatusOr<Measured> RunOurs(const Case& a_case);
  absl::Status RunQemu(const Case& a_case, Compared& compared);
  absl::StatusOr<double> RunQemu(const QemuImg& qemu, const Case& a_case, uint64_t requests,
                                 const std::string& aio);
  absl::Status Populate(const Workload& workload);
  absl::Status PrepareBase(const Workload& workload, Workload::Base base);
  std::string BasePath(Workload::Base base) const;
  void Settle() const;

  Rings& rings_;
  const std::optional<QemuImg> checker_;
  const std::optional<QemuImg> rival_;
  const std::chrono::nanoseconds time_limit_;
  const std::string directory_;
  const std::string qcow2_path_;
  const std::string raw_path_;
  std::string populated_;  // what the two files hold, for workloads that do not allocate
  std::map<Workload::Base, uint64_t> bases_;  // the backing files that are there, and their sizes
  bool qemu_has_io_uring_ = true;
  bool qemu_has_native_ = true;
};

}  // namespace ringcow

#endif  // RINGCOW_BENCH_COMPARISON_H_
