#include "tests/explorer/scenario_run.h"

#include <random>
#include <utility>

#include "engine/invariant.h"
#include "engine/scope.h"
#include "tests/explorer/failure_kind.h"

namespace ringcow {

ScenarioRun::ScenarioRun(const Scenario& scenario, const DiskImage& prepared, SimDisk::Flaws flaws)
    : scenario_(scenario),
      disk_(loop_,
            {.seed = scenario.seed,
             .alignment = scenario.disk_alignment,
             .stragglers = 12,
             .flaws = flaws},
            prepared),
      inherited_(scenario.inherited_units, scenario.unit_bytes),
      guest_(disk_.trace(), scenario.units(), scenario.unit_bytes, scenario.inherited_units) {
  if (!scenario.can_allocate) disk_.SetUnsupported({Op::kAllocate, Op::kWriteZeroes, Op::kPunch});
}

// One of the requests made by those who work: behind the last one nothing would fail.
void ScenarioRun::LetOneFail() {
  std::mt19937_64 random(scenario_.seed);
  const FailureKind kind = kAllFailureKinds[random() % kAllFailureKinds.size()];
  const uint64_t later = random() % (scenario_.workers * scenario_.steps);
  disk_.SetFaults(FailNth(kind, disk_.requests() + later));
}

void ScenarioRun::OpenAndWork(const Script& script) {
  absl::StatusOr<std::unique_ptr<Image>> image = loop_.Run(Image::Open(disk_, open_options()));
  opened_ = image.status();
  if (!opened_.ok()) return;
  image_ = *std::move(image);
  if (scenario_.io_fails) LetOneFail();
  std::vector<std::vector<Step>> steps_of(scenario_.workers);
  for (const Step& step : script) {
    if (step.worker >= steps_of.size()) steps_of.resize(step.worker + 1);
    steps_of[step.worker].push_back(step);
  }
  Scope workers(loop_);
  for (std::vector<Step>& steps : steps_of) workers.Spawn(Work(std::move(steps)));
  (void)loop_.Run(workers.Join());
}

Task<absl::Status> ScenarioRun::Work(std::vector<Step> steps) {
  for (const Step& step : steps) {
    (void)co_await step.operation->run(*image_, guest_, step.range);  // the guest remembers
  }
  co_return absl::OkStatus();
}

bool ScenarioRun::WorkSomeMore() {
  bool ok = true;
  for (size_t worker = 0; worker < scenario_.workers; ++worker) {
    const UnitRange range{worker * scenario_.group_units, 2};
    ok &= loop_.Run(kWrite.run(*image_, guest_, range)).ok();
  }
  return ok;
}

void ScenarioRun::Close() {
  if (image_ == nullptr) return;
  (void)loop_.Run(guest_.Close(*image_));  // the guest remembers how it ended
  image_.reset();
}

}  // namespace ringcow
