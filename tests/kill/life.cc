#include "tests/kill/life.h"

#include <iterator>

#include "absl/strings/str_format.h"
#include "tests/support/work_ahead.h"

namespace ringcow {
namespace {

constexpr uint64_t kMiB = 1 << 20;

template <typename T, size_t kCount>
const T& OneOf(const T (&values)[kCount], std::mt19937_64& random) {
  return values[random() % kCount];
}

// From microseconds, the time from one request to the next, to that of a slow disk's fsync; as
// often of each order.
absl::Duration RandomDelay(std::mt19937_64& random) {
  const int64_t most_us = int64_t{1} << (random() % 14);
  return absl::Microseconds(static_cast<int64_t>(random() % most_us));
}

OpenOptions RandomOpenOptions(uint64_t cluster_size, std::mt19937_64& random) {
  OpenOptions open;
  open.write_back.mode = random() % 4 == 0 ? CacheMode::kWritethrough : CacheMode::kWriteback;
  open.write_back.form = OneOf({PlanForm::kAuto, PlanForm::kChain, PlanForm::kStages}, random);
  if (random() % 2 == 0) {
    open.cache_slice_bytes = 512;
    open.l2_cache_bytes = 4 * open.cache_slice_bytes;
    open.refcount_cache_bytes = 4 * open.cache_slice_bytes;
  } else if (random() % 2 == 0) {
    open.l2_cache_bytes = 2 * cluster_size;
    open.refcount_cache_bytes = 2 * cluster_size;
  }
  SwitchWorkAhead(open, random);
  return open;
}

}  // namespace

CreateOptions RandomImage(std::mt19937_64& random) {
  struct Size {
    uint64_t cluster;
    uint64_t disk;
  };
  const Size size = OneOf<Size>(
      {{512, 2 * kMiB}, {512, 4 * kMiB}, {4096, 16 * kMiB}, {65536, 32 * kMiB}}, random);
  CreateOptions create{.virtual_size = size.disk, .cluster_size = size.cluster};
  create.version = random() % 4 == 0 ? 2 : 3;
  if (create.version == 3) create.refcount_bits = OneOf<uint64_t>({1, 8, 16, 64}, random);
  if (random() % 8 == 0) create.preallocation = Preallocation::kMetadata;
  return create;
}

Life RandomLife(const CreateOptions& image, bool creates, std::mt19937_64& random) {
  Life life{.create = image, .creates = creates};
  life.open = RandomOpenOptions(image.cluster_size, random);
  life.seed = random();
  life.workers = OneOf<size_t>({1, 3, 16}, random);
  life.group = OneOf<uint64_t>({4, 32, 256}, random);
  life.flush_odds = OneOf<uint64_t>({3, 20, 200}, random);
  const uint64_t when = random() % 10;
  if (creates && when < 4) {
    life.kill_in = Phase::kCreating;
  } else if (when < 2) {
    life.kill_in = Phase::kOpening;
  } else if (when < 4) {
    life.kill_in = Phase::kClosing;
    life.steps = 1 + random() % 40;
  } else {
    // Fsyncs are what takes time.
    const bool mostly_fsyncs =
        life.flush_odds < 5 || life.open.write_back.mode == CacheMode::kWritethrough;
    life.kill_after = random() % (mostly_fsyncs ? 100 : 1000);
    life.kill_in_flush = when < 7;
  }
  life.delay = RandomDelay(random);
  return life;
}

std::string Describe(const Life& life) {
  return absl::StrFormat(
      "%s an image of %d bytes, v%d, clusters of %d, %d refcount bits, preallocation %s; open with "
      "%s, form %d, caches of %d and %d bytes, slices of %d, %s; %d workers in "
      "groups "
      "of %d, a flush in %d, %d steps, seed %d",
      life.creates ? "create" : "reopen", life.create.virtual_size, life.create.version,
      life.create.cluster_size, life.create.refcount_bits,
      PreallocationName(life.create.preallocation),
      life.open.write_back.mode == CacheMode::kWritethrough ? "writethrough" : "writeback",
      life.open.write_back.form, life.open.l2_cache_bytes, life.open.refcount_cache_bytes,
      life.open.cache_slice_bytes, WorkAheadOf(life.open), life.workers, life.group,
      life.flush_odds, life.steps, life.seed);
}

}  // namespace ringcow
