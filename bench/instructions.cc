// Runs one of InstructionCases on a disk that costs nothing, and says how many requests it made and
// how often it asked the heap for memory. Under callgrind, which ./dev perf-gate runs it under, the
// instructions of RingcowMeasuredPart are counted.

#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "bench/gate_cases.h"
#include "bench/null_disk.h"
#include "bench/runner.h"
#include "bench/subject.h"
#include "engine/loop.h"
#include "engine/status_macros.h"
#include "qcow2/image.h"

namespace ringcow {
namespace {

using Result = absl::StatusOr<RunResult>;

struct Part {
  Loop& loop;
  GuestDisk& disk;
  std::span<const GuestOp> ops;
  RunOptions options;
  Result result = absl::UnknownError("not run");
};

}  // namespace
}  // namespace ringcow

// A name that callgrind can be told.
extern "C" [[gnu::noinline]] void RingcowMeasuredPart(ringcow::Part& part) {
  part.result = part.loop.Run(RunOps(part.loop, part.disk, part.ops, part.options));
}

namespace ringcow {
namespace {

struct Counted {
  RunResult run;
  uint64_t turns = 0;
};

absl::StatusOr<Counted> Measure(const Case& a_case) {
  Loop loop;
  NullDisk disk(loop);
  RETURN_IF_ERROR(loop.Run(MakeQcow2(disk, a_case.workload)));
  ASSIGN_OR_RETURN(const std::unique_ptr<Image> image,
                   loop.Run(Image::Open(disk, a_case.open_options)));
  const std::vector<GuestOp> ops = MakeOps(a_case.workload);
  RunOptions options;
  options.depth = a_case.depth;
  options.flush_every = a_case.workload.flush_every;
  if (a_case.workload.start == Workload::Start::kPopulated) {
    RETURN_IF_ERROR(loop.Run(RunOps(loop, *image, ops, options)).status());
  }
  Part part = {loop, *image, ops, options};
  const uint64_t turns = disk.turns();
  RingcowMeasuredPart(part);
  const uint64_t turned = disk.turns() - turns;
  RETURN_IF_ERROR(part.result.status());
  RETURN_IF_ERROR(loop.Run(image->Close()));
  RETURN_IF_ERROR(CheckQcow2(disk));
  return Counted{*std::move(part.result), turned};
}

absl::StatusOr<Counted> MeasureNamed(absl::string_view name) {
  std::string names;
  for (const Case& a_case : InstructionCases()) {
    if (a_case.name == name) return Measure(a_case);
    absl::StrAppend(&names, "\n  ", a_case.name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("usage: instructions CASE, which is one of", names));
}

}  // namespace
}  // namespace ringcow

int main(int argc, char** argv) {
  const auto result = ringcow::MeasureNamed(argc == 2 ? argv[1] : "");
  if (!result.ok()) {
    std::fprintf(stderr, "instructions: %s\n", std::string(result.status().message()).c_str());
    return 1;
  }
  absl::PrintF("requests %d\nheap_allocations %d\nturns %d\n", result->run.requests,
               result->run.heap_allocations, result->turns);
  return 0;
}
