#include "tests/support/scenario.h"

#include <algorithm>
#include <utility>

#include "engine/invariant.h"
#include "engine/scope.h"

namespace ringcow {
namespace {

constexpr uint64_t kSector = StampedGuest::kSector;
constexpr uint64_t kGroup = 32;  // sectors, the most that one write has

void MustBeOk(const absl::Status& status) {
  RINGCOW_INVARIANT(status.ok(), status.ToString().c_str());
}

// Zeroes, which the guest expects where it never wrote, take up clusters like anything else.
Task<absl::Status> Fill(Image& image, uint64_t sectors) {
  const std::vector<std::byte> zeroes(sectors * kSector);
  co_return co_await image.Write(GuestOffset(image.size() - zeroes.size()), zeroes);
}

Scenario SmallestClusters(std::string name, uint64_t sectors) {
  Scenario scenario;
  scenario.name = std::move(name);
  scenario.create = {.virtual_size = sectors * kSector, .cluster_size = 512, .refcount_bits = 64};
  scenario.open.cache_slice_bytes = 512;
  return scenario;
}

}  // namespace

std::vector<Scenario> AllScenarios() {
  // New L2 tables and refcount blocks all the time, and no room for them in the caches.
  Scenario fresh = SmallestClusters("Fresh", 768);
  fresh.steps = 20;
  fresh.open.l2_cache_bytes = 1024;
  fresh.open.refcount_cache_bytes = 1024;

  // 64 refcount blocks of 64 clusters each are what a refcount table of one cluster can name.
  Scenario full = SmallestClusters("RefcountTableGrows", 5120);
  full.filled_sectors = 3930;
  full.steps = 8;
  full.open.grow_ahead = false;

  Scenario writethrough = SmallestClusters("Writethrough", 768);
  writethrough.open.write_back = {.mode = CacheMode::kWritethrough, .form = PlanForm::kStages};
  writethrough.steps = 8;

  // Writes of parts of clusters, into a disk that may hold anything there.
  Scenario parts = SmallestClusters("PartsOfClusters", 4096);
  parts.create.cluster_size = 4096;
  parts.create.refcount_bits = 16;
  parts.open.write_back.form = PlanForm::kChain;
  parts.can_allocate = false;
  return {fresh, full, writethrough, parts};
}

DiskImage Prepare(const Scenario& scenario) {
  Loop loop;
  SimDisk disk(loop, {.record = false});
  MustBeOk(loop.Run(CreateImage(disk, scenario.create)));
  absl::StatusOr<std::unique_ptr<Image>> image = loop.Run(Image::Open(disk, OpenOptions()));
  MustBeOk(image.status());
  if (scenario.filled_sectors > 0) MustBeOk(loop.Run(Fill(**image, scenario.filled_sectors)));
  MustBeOk(loop.Run((*image)->Close()));
  return disk.content();
}

ScenarioRun::ScenarioRun(const Scenario& scenario, const DiskImage& prepared)
    : scenario_(scenario),
      disk_(loop_, {.seed = scenario.seed}, prepared),
      guest_(disk_.trace(), scenario.create.virtual_size / kSector) {
  if (!scenario.can_allocate) disk_.SetUnsupported({Op::kAllocate, Op::kWriteZeroes, Op::kPunch});
}

void ScenarioRun::OpenAndWork() {
  absl::StatusOr<std::unique_ptr<Image>> image = loop_.Run(Image::Open(disk_, scenario_.open));
  opened_ = image.status();
  if (!opened_.ok()) return;
  image_ = *std::move(image);
  Scope workers(loop_);
  for (size_t i = 0; i < scenario_.workers; ++i) workers.Spawn(Work(i));
  MustBeOk(loop_.Run(workers.Join()));
}

bool ScenarioRun::WorkSomeMore() {
  std::mt19937_64 random(scenario_.seed + 1000);
  bool ok = true;
  for (size_t i = 0; i < scenario_.workers; ++i) ok &= loop_.Run(WriteSome(i, random)).ok();
  return ok;
}

void ScenarioRun::Close() {
  (void)loop_.Run(guest_.Close(*image_));  // the guest remembers how it ended
  image_.reset();
}

Task<absl::Status> ScenarioRun::Work(size_t worker) {
  std::mt19937_64 random(scenario_.seed * 100 + worker);
  for (size_t i = 0; i < scenario_.steps; ++i) {
    if (random() % 5 == 0) {
      (void)co_await guest_.Flush(*image_);
    } else {
      (void)co_await WriteSome(worker, random);
    }
  }
  co_return absl::OkStatus();
}

// Workers take turns in groups of sectors, so that they never share a sector, but L2 tables and
// clusters. The first quarter of the disk, where nothing has been filled, gets half of the writes.
Task<absl::Status> ScenarioRun::WriteSome(size_t worker, std::mt19937_64& random) {
  const uint64_t groups = guest_.sectors() / kGroup / scenario_.workers;
  const uint64_t group = random() % (random() % 2 == 0 ? groups / 4 + 1 : groups);
  const uint64_t count = 1 + random() % (random() % 5 == 0 ? kGroup : 4);
  const uint64_t first = (group * scenario_.workers + worker) * kGroup;
  co_return co_await guest_.Write(*image_, first + random() % (kGroup - count + 1), count);
}

}  // namespace ringcow
