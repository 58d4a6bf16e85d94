#include "tests/explorer/scenario.h"

#include <algorithm>
#include <array>
#include <utility>

namespace ringcow {
namespace {

constexpr uint64_t kSector = 512;
constexpr std::array kForms = {PlanForm::kChain, PlanForm::kStages, PlanForm::kDurable,
                               PlanForm::kAuto};

const std::vector<WeightedOperation> kSmallWrites = {
    {&kWrite, 12}, {&kWriteLarge, 1}, {&kRead, 1}, {&kFlush, 4}};
const std::vector<WeightedOperation> kLargeWrites = {
    {&kWrite, 2}, {&kWriteLarge, 6}, {&kWriteZeros, 1}, {&kFlush, 2}};
const std::vector<WeightedOperation> kManyFlushes = {{&kWrite, 6}, {&kFlush, 8}};
const std::vector<WeightedOperation> kManyReads = {{&kWrite, 8}, {&kRead, 6}, {&kFlush, 2}};
const std::vector<WeightedOperation> kZeroesAndDiscards = {{&kWrite, 6},    {&kWriteLarge, 1},
                                                           {&kZeroKeep, 2}, {&kZeroUnmap, 2},
                                                           {&kDiscard, 3},  {&kFlush, 4}};
const std::vector<WeightedOperation> kCompressedWrites = {
    {&kWriteCompressed, 6}, {&kWrite, 3}, {&kZeroUnmap, 1}, {&kDiscard, 2}, {&kFlush, 4}};
const std::vector<WeightedOperation> kSnapshots = {
    {&kWrite, 9}, {&kWriteLarge, 1}, {&kZeroUnmap, 1},     {&kDiscard, 1},
    {&kFlush, 2}, {&kSnapshot, 1},   {&kDeleteSnapshot, 1}};
const std::vector<WeightedOperation> kOverwrites = {
    {&kWrite, 8}, {&kWriteZeros, 3}, {&kRead, 1}, {&kFlush, 3}};

// As small as tables can be, for there to be many of them: an L2 table maps 32 KiB, a refcount
// block counts 64 clusters.
Scenario SmallestTables(std::string name, uint64_t sectors) {
  Scenario scenario;
  scenario.name = std::move(name);
  scenario.create = {.virtual_size = sectors * kSector, .cluster_size = 512, .refcount_bits = 64};
  scenario.open.cache_slice_bytes = 512;
  scenario.mix = kSmallWrites;
  return scenario;
}

Scenario WithClusters(std::string name, uint64_t cluster_bytes, uint64_t refcount_bits,
                      uint64_t sectors) {
  Scenario scenario = SmallestTables(std::move(name), sectors);
  scenario.create.cluster_size = cluster_bytes;
  scenario.create.refcount_bits = refcount_bits;
  return scenario;
}

Scenario FreshSmall() { return SmallestTables("FreshSmall", 384); }

Scenario FreshLarge() {
  Scenario scenario = SmallestTables("FreshLarge", 768);
  scenario.mix = kLargeWrites;
  scenario.steps = 5;
  scenario.group_units = 64;
  return scenario;
}

// No room in the caches: tables leave all the time, in order.
Scenario Eviction() {
  Scenario scenario = SmallestTables("Eviction", 768);
  scenario.mix = kManyReads;
  scenario.steps = 16;
  scenario.open.l2_cache_bytes = 1024;
  scenario.open.refcount_cache_bytes = 1024;
  return scenario;
}

// A new refcount block every 64 clusters, and hardly anything else.
Scenario RefcountBlocks() {
  Scenario scenario = FreshLarge();
  scenario.name = "RefcountBlocks";
  scenario.mix = {{&kWriteLarge, 5}, {&kFlush, 3}};
  scenario.open.refcount_cache_bytes = 1024;
  scenario.open.grow_ahead = false;
  return scenario;
}

// 64 refcount blocks of 64 clusters each are what a refcount table of one cluster can name.
Scenario RefcountTableGrows() {
  Scenario scenario = SmallestTables("RefcountTableGrows", 5120);
  scenario.filled_units = 3945;
  scenario.steps = 8;
  scenario.mix = {{&kWrite, 8}, {&kWriteLarge, 2}, {&kFlush, 3}};
  scenario.open.grow_ahead = false;
  scenario.share = 1;
  return scenario;
}

Scenario Overwrites() {
  Scenario scenario = WithClusters("Overwrites", 1024, 16, 96);
  scenario.mix = kOverwrites;
  scenario.group_units = 8;
  scenario.steps = 16;
  return scenario;
}

// Units of 64 bytes: the disk's sectors are read, changed and written, by several workers at once.
Scenario Unaligned() {
  Scenario scenario = WithClusters("Unaligned", 1024, 16, 128);
  scenario.unit_bytes = 64;
  scenario.group_units = 12;
  scenario.mix = kOverwrites;
  return scenario;
}

// A disk whose blocks are larger than clusters and tables: metadata cannot go in chains.
Scenario LargeBlocks() {
  Scenario scenario = SmallestTables("LargeBlocks", 256);
  scenario.disk_alignment = 4096;
  return scenario;
}

// What is allocated held something before, as after a crash: order against data matters. Most of
// all where a flush makes the refcounts durable while the data is still being written.
Scenario StaleClusters() {
  Scenario scenario = SmallestTables("StaleClusters", 384);
  scenario.mix = kManyFlushes;
  scenario.steps = 14;
  scenario.stale_bytes = 512 * 1024;
  return scenario;
}

// Workers meet in clusters, here and in overlays.
Scenario StaleParts() {
  Scenario scenario = WithClusters("StaleParts", 4096, 16, 512);
  scenario.group_units = 12;
  scenario.mix = kManyFlushes;
  scenario.steps = 14;
  scenario.stale_bytes = 1024 * 1024;
  return scenario;
}

// Writes of parts of clusters, on a host that cannot reserve space.
Scenario WithoutFallocate() {
  Scenario scenario = WithClusters("WithoutFallocate", 4096, 16, 768);
  scenario.can_allocate = false;
  return scenario;
}

Scenario FlushStorm() {
  Scenario scenario = SmallestTables("FlushStorm", 384);
  scenario.mix = kManyFlushes;
  scenario.workers = 6;
  scenario.group_units = 16;
  return scenario;
}

// Most flushes have no refcounts to wait for, and clusters are taken while others are just being
// reserved.
Scenario Reserved() {
  Scenario scenario = SmallestTables("Reserved", 512);
  scenario.mix = {{&kWrite, 6}, {&kDiscard, 1}, {&kFlush, 6}};
  scenario.workers = 8;
  scenario.group_units = 16;
  return scenario;
}

// Several L2 tables, and a sector to spare in the header's cluster.
Scenario Recorded() {
  Scenario scenario = WithClusters("Recorded", 1024, 64, 2048);
  scenario.mix = {{&kWrite, 6}, {&kDiscard, 1}, {&kFlush, 6}};
  scenario.workers = 6;
  scenario.group_units = 16;
  return scenario;
}

Scenario RecordedSnapshots() {
  Scenario scenario = Recorded();
  scenario.name = "RecordedSnapshots";
  scenario.mix = {{&kWrite, 9}, {&kFlush, 5}, {&kSnapshot, 2}, {&kDeleteSnapshot, 1}};
  return scenario;
}

Scenario Writethrough() {
  Scenario scenario = SmallestTables("Writethrough", 384);
  scenario.open.write_back.mode = CacheMode::kWritethrough;
  scenario.steps = 8;
  return scenario;
}

Scenario OneBitRefcounts() { return WithClusters("OneBitRefcounts", 512, 1, 384); }

Scenario UsualClusters() {
  Scenario scenario = WithClusters("UsualClusters", 65536, 16, 1024);
  scenario.open.cache_slice_bytes = 4096;
  scenario.group_units = 64;
  return scenario;
}

Scenario Version2() {
  Scenario scenario = WithClusters("Version2", 2048, 16, 512);
  scenario.create.version = 2;
  return scenario;
}

Scenario ZeroesAndDiscards() {
  Scenario scenario = SmallestTables("ZeroesAndDiscards", 256);
  scenario.mix = kZeroesAndDiscards;
  scenario.steps = 14;
  return scenario;
}

// Parts of clusters are zeroed, and what is freed is used again for parts of clusters.
Scenario ZeroesInLargeClusters() {
  Scenario scenario = WithClusters("ZeroesInLargeClusters", 4096, 16, 512);
  scenario.mix = kZeroesAndDiscards;
  scenario.steps = 14;
  return scenario;
}

// Shorter than the image.
Scenario Overlay() {
  Scenario scenario = WithClusters("Overlay", 4096, 16, 512);
  scenario.create.backing_file = "base";
  scenario.create.backing_format = "raw";
  scenario.inherited_units = 400;
  scenario.group_units = 12;
  scenario.mix = {{&kWrite, 8}, {&kZeroUnmap, 1}, {&kDiscard, 1}, {&kRead, 1}, {&kFlush, 4}};
  return scenario;
}

Scenario StaleOverlay() {
  Scenario scenario = Overlay();
  scenario.name = "StaleOverlay";
  scenario.mix = kManyFlushes;
  scenario.steps = 14;
  scenario.stale_bytes = 1024 * 1024;
  return scenario;
}

Scenario CopyOnRead() {
  Scenario scenario = Overlay();
  scenario.name = "CopyOnRead";
  scenario.open.copy_on_read = true;
  scenario.mix = {{&kRead, 6}, {&kWrite, 4}, {&kZeroUnmap, 1}, {&kDiscard, 1}, {&kFlush, 3}};
  return scenario;
}

Scenario Subclusters() {
  Scenario scenario = Overlay();
  scenario.name = "Subclusters";
  scenario.create.cluster_size = 16384;
  scenario.create.extended_l2 = true;
  scenario.mix = kZeroesAndDiscards;
  scenario.steps = 14;
  return scenario;
}

Scenario Snapshots() {
  Scenario scenario = WithClusters("Snapshots", 1024, 16, 192);
  scenario.mix = kSnapshots;
  scenario.open.cache_slice_bytes = 1024;
  scenario.share = 2;
  return scenario;
}

Scenario SnapshotsSmallestTables() {
  Scenario scenario = SmallestTables("SnapshotsSmallestTables", 192);
  scenario.mix = kSnapshots;
  scenario.open.l2_cache_bytes = 1024;
  scenario.share = 2;
  return scenario;
}

// Nothing but snapshots makes clusters be allocated: what the guest can write is there already. The
// last refcount block is almost full.
Scenario SnapshotsGrowRefcountBlocks() {
  Scenario scenario = SmallestTables("SnapshotsGrowRefcountBlocks", 128);
  scenario.filled_units = 128;
  scenario.leaked_clusters = 105;
  scenario.group_units = 16;
  scenario.mix = {
      {&kWrite, 6}, {&kWriteLarge, 2}, {&kFlush, 3}, {&kSnapshot, 4}, {&kDeleteSnapshot, 2}};
  scenario.open.grow_ahead = false;
  scenario.share = 2;
  return scenario;
}

// The same with all blocks that a refcount table of one cluster can name.
Scenario SnapshotsGrowRefcountTable() {
  Scenario scenario = SnapshotsGrowRefcountBlocks();
  scenario.name = "SnapshotsGrowRefcountTable";
  scenario.leaked_clusters = 3828;
  scenario.share = 1;
  return scenario;
}

// One worker, whose disk becomes what it was.
Scenario SnapshotsApplied() {
  Scenario scenario = WithClusters("SnapshotsApplied", 1024, 16, 96);
  scenario.mix = {{&kWrite, 9}, {&kWriteLarge, 1}, {&kZeroUnmap, 1},     {&kDiscard, 1},
                  {&kFlush, 5}, {&kSnapshot, 3},   {&kApplySnapshot, 3}, {&kDeleteSnapshot, 1}};
  scenario.open.cache_slice_bytes = 1024;
  scenario.workers = 1;
  scenario.steps = 24;
  scenario.share = 2;
  return scenario;
}

// With the state of a virtual machine beside the disk, which makes L1 tables grow and shrink.
Scenario VmStates() {
  Scenario scenario = SnapshotsApplied();
  scenario.name = "VmStates";
  scenario.mix.push_back({&kVmState, 6});
  return scenario;
}

// What it gives up shows the backing file again, and makes room for what comes next.
Scenario Emptying() {
  Scenario scenario = Overlay();
  scenario.name = "Emptying";
  scenario.create.cluster_size = 512;
  scenario.create.virtual_size = 256 * kSector;
  scenario.inherited_units = 200;
  scenario.mix = {{&kWrite, 8},   {&kWriteLarge, 1}, {&kWriteCompressed, 2},
                  {&kDiscard, 1}, {&kFlush, 3},      {&kEmpty, 3}};
  scenario.workers = 1;
  scenario.share = 1;
  scenario.steps = 24;
  return scenario;
}

// Its snapshots stay.
Scenario EmptyingWithSnapshots() {
  Scenario scenario = SnapshotsApplied();
  scenario.name = "EmptyingWithSnapshots";
  scenario.mix.push_back({&kEmpty, 3});
  return scenario;
}

// Several compressed clusters in a cluster, and some in two.
Scenario Compressed() {
  Scenario scenario = SmallestTables("Compressed", 256);
  scenario.mix = kCompressedWrites;
  scenario.steps = 14;
  return scenario;
}

// What was there before does not decompress.
Scenario CompressedStale() {
  Scenario scenario = WithClusters("CompressedStale", 2048, 16, 512);
  scenario.create.compression_type = CompressionType::kZstd;
  scenario.mix = {{&kWriteCompressed, 6}, {&kDiscard, 1}, {&kFlush, 8}};
  scenario.steps = 14;
  scenario.stale_bytes = 512 * 1024;
  return scenario;
}

Scenario CompressedSnapshots() {
  Scenario scenario = WithClusters("CompressedSnapshots", 1024, 16, 192);
  scenario.mix = {{&kWriteCompressed, 6}, {&kWrite, 4},    {&kDiscard, 1},
                  {&kFlush, 2},           {&kSnapshot, 1}, {&kDeleteSnapshot, 1}};
  scenario.open.cache_slice_bytes = 1024;
  scenario.share = 2;
  return scenario;
}

Scenario Failing(Scenario scenario) {
  scenario.name += "Failing";
  scenario.io_fails = true;
  return scenario;
}

std::vector<Scenario> MakeScenarios() {
  return {FreshSmall(),
          FreshLarge(),
          Eviction(),
          RefcountBlocks(),
          RefcountTableGrows(),
          Overwrites(),
          Unaligned(),
          LargeBlocks(),
          StaleClusters(),
          StaleParts(),
          WithoutFallocate(),
          FlushStorm(),
          Reserved(),
          Recorded(),
          RecordedSnapshots(),
          Writethrough(),
          OneBitRefcounts(),
          UsualClusters(),
          Version2(),
          ZeroesAndDiscards(),
          ZeroesInLargeClusters(),
          Overlay(),
          StaleOverlay(),
          CopyOnRead(),
          Subclusters(),
          Snapshots(),
          SnapshotsSmallestTables(),
          SnapshotsGrowRefcountBlocks(),
          SnapshotsGrowRefcountTable(),
          SnapshotsApplied(),
          VmStates(),
          Emptying(),
          EmptyingWithSnapshots(),
          Compressed(),
          CompressedStale(),
          CompressedSnapshots(),
          Failing(Compressed()),
          Failing(ZeroesAndDiscards()),
          Failing(Overlay()),
          Failing(Snapshots()),
          Failing(SnapshotsGrowRefcountBlocks()),
          Failing(SnapshotsApplied()),
          Failing(VmStates()),
          Failing(Emptying()),
          Failing(FreshSmall()),
          Failing(Eviction()),
          Failing(RefcountBlocks()),
          Failing(RefcountTableGrows()),
          Failing(StaleClusters()),
          Failing(FlushStorm()),
          Failing(Reserved()),
          Failing(Recorded()),
          Failing(Writethrough())};
}

}  // namespace

bool Scenario::takes_snapshots() const {
  return std::any_of(mix.begin(), mix.end(), [](const WeightedOperation& weighted) {
    return weighted.operation == &kSnapshot;
  });
}

std::ostream& operator<<(std::ostream& out, const Scenario& scenario) {
  return out << scenario.name << scenario.seed;
}

const std::vector<Scenario>& AllScenarios() {
  static const auto* const scenarios = new std::vector<Scenario>(MakeScenarios());
  return *scenarios;
}

const Scenario* FindScenario(absl::string_view name) {
  for (const Scenario& scenario : AllScenarios()) {
    if (scenario.name == name) return &scenario;
  }
  return nullptr;
}

Scenario WithSeed(Scenario scenario, uint64_t seed) {
  scenario.seed = seed;
  scenario.open.write_back.form = kForms[seed % kForms.size()];
  // Mostly as by default, and without each of them, alone and together.
  scenario.open.reserve_refcounts = seed % 5 != 0;
  scenario.open.record_reserve = seed % 11 != 0;
  scenario.open.write_zeroes_ahead = seed % 3 != 0;
  scenario.open.enter_zero_clusters_early = seed % 7 != 0;
  scenario.open.pass_discard = {
      .request = seed % 6 != 1, .snapshot = seed % 5 != 2, .other = seed % 4 == 3};
  if (seed % 2 == 0) scenario.open.overlap_check = OverlapCheck::kAll;
  return scenario;
}

}  // namespace ringcow
