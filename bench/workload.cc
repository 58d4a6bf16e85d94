#include "bench/workload.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <random>

namespace ringcow {
namespace {

constexpr uint64_t kMaxStep = (uint64_t{1} << 31) - 1;

// Odd, so coprime to any power of two; otherwise the next one that is coprime.
uint64_t ScatterStep(uint64_t places, uint64_t spacing) {
  const uint64_t most = std::min(places, kMaxStep / spacing);
  uint64_t step = static_cast<uint64_t>(static_cast<double>(most) * 0.618) | 1;
  while (std::gcd(step, places) != 1) ++step;
  return step * spacing;
}

class InstallMix {
 public:
  explicit InstallMix(const Workload& workload)
      : workload_(workload),
        unused_extents_((workload.image_bytes - kJournalBytes) / kExtentBytes) {
    std::iota(unused_extents_.begin(), unused_extents_.end(), 0);
    // std::shuffle's result is not specified by the standard; this one repeats everywhere.
    for (size_t i = unused_extents_.size(); i > 1; --i) {
      std::swap(unused_extents_[i - 1], unused_extents_[Below(i)]);
    }
  }

  std::vector<GuestOp> Generate() {
    std::vector<GuestOp> ops;
    while (requests_ < workload_.requests) {
      if (Below(kWritesPerCommit) == 0) {
        AddCommit(ops);
      } else if (!AddFileWrite(ops)) {
        break;
      }
    }
    return ops;
  }

 private:
  static constexpr uint64_t kUnit = 4096;
  static constexpr uint64_t kJournalBytes = uint64_t{16} << 20;
  static constexpr uint64_t kExtentBytes = uint64_t{4} << 20;
  static constexpr size_t kFilesAtATime = 4;
  static constexpr uint64_t kWritesPerCommit = 32;
  static constexpr uint32_t kSeed = 20;

  struct File {
    uint64_t at = 0;
    uint64_t end = 0;
  };

  uint64_t Below(uint64_t bound) { return random_() % bound; }

  void Add(std::vector<GuestOp>& ops, uint64_t offset, uint64_t length) {
    ops.push_back({GuestOp::Kind::kWrite, GuestOffset(offset), static_cast<uint32_t>(length)});
    ++requests_;
  }

  // Powers of two are equally likely, which is about what files and extents look like.
  uint64_t FileWriteBytes() { return kUnit << Below(9); }

  bool AddFileWrite(std::vector<GuestOp>& ops) {
    File& file = files_[Below(files_.size())];
    if (file.at == file.end) {
      if (unused_extents_.empty()) return false;
      file.at = kJournalBytes + unused_extents_.back() * kExtentBytes;
      file.end = file.at + kExtentBytes;
      unused_extents_.pop_back();
    }
    const uint64_t length = std::min(FileWriteBytes(), file.end - file.at);
    Add(ops, file.at, length);
    file.at += length;
    return true;
  }

  void AddCommit(std::vector<GuestOp>& ops) {
    const uint64_t length = kUnit * (1 + Below(4));
    if (journal_at_ + length > kJournalBytes) journal_at_ = 0;
    Add(ops, journal_at_, length);
    journal_at_ += length;
    ops.push_back({GuestOp::Kind::kFlush, GuestOffset(0), 0});
  }

  const Workload& workload_;
  std::mt19937_64 random_{kSeed};
  std::vector<uint64_t> unused_extents_;
  std::array<File, kFilesAtATime> files_;
  uint64_t journal_at_ = 0;
  uint64_t requests_ = 0;
};

}  // namespace

uint64_t Step(const Workload& workload) {
  switch (workload.pattern) {
    case Workload::Pattern::kSequential:
      return workload.request_bytes;
    case Workload::Pattern::kScattered:
      return ScatterStep(workload.places(), workload.spacing);
    case Workload::Pattern::kInstallMix:
      return 0;
  }
  return 0;
}

std::vector<GuestOp> MakeOps(const Workload& workload) {
  if (workload.pattern == Workload::Pattern::kInstallMix) return InstallMix(workload).Generate();

  const GuestOp::Kind kind = workload.reads ? GuestOp::Kind::kRead : GuestOp::Kind::kWrite;
  const uint64_t step = Step(workload);
  std::vector<GuestOp> ops;
  ops.reserve(workload.requests);
  uint64_t offset = 0;
  for (uint64_t i = 0; i < workload.requests; ++i) {
    ops.push_back({kind, GuestOffset(offset), workload.request_bytes});
    offset = (offset + step) % workload.image_bytes;
  }
  return ops;
}

std::string BaseName(Workload::Base base) {
  return base == Workload::Base::kRaw ? "base.raw" : "base.qcow2";
}

Workload WithRequests(Workload workload, uint64_t requests) {
  workload.requests = requests;
  if (!workload.allocates()) return workload;
  const uint64_t bytes_a_request =
      workload.pattern == Workload::Pattern::kScattered ? workload.spacing : workload.request_bytes;
  workload.image_bytes = std::max(workload.image_bytes, std::bit_ceil(requests * bytes_a_request));
  return workload;
}

}  // namespace ringcow
