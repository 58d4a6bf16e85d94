#include "tests/support/image_model.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"
#include "engine/scope.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr uint64_t kCompareBytes = uint64_t{1} << 20;

}  // namespace

absl::Status ImageModel::Run(GuestDisk& disk, const Workload& workload) {
  Scope workers(loop_);
  for (size_t i = 0; i < workload.workers; ++i) workers.Spawn(Work(disk, workload));
  return loop_.Run(workers.Join());
}

absl::Status ImageModel::Compare(GuestDisk& disk) {
  for (uint64_t at = 0; at < bytes_.size(); at += kCompareBytes) {
    const uint64_t length = std::min<uint64_t>(kCompareBytes, bytes_.size() - at);
    RETURN_IF_ERROR(loop_.Run(ReadAndCompare(disk, {at, length})));
  }
  return absl::OkStatus();
}

Task<absl::Status> ImageModel::Work(GuestDisk& disk, Workload workload) {
  for (size_t i = 0; i < workload.requests; ++i) {
    uint32_t choice = random_() % 100;
    const auto is = [&choice](uint32_t share) {
      if (choice < share) return true;
      choice -= share;
      return false;
    };
    if (is(workload.flushes)) {
      CO_RETURN_IF_ERROR(co_await disk.Flush());
      continue;
    }
    if (is(workload.compressed)) {
      CO_RETURN_IF_ERROR(co_await WriteCompressed(disk, RandomRange(workload), workload));
      continue;
    }
    const Range range = RandomRange(workload);
    RangeLock::Hold hold(in_use_, range.begin, range.begin + range.length);
    co_await hold;
    if (is(workload.writes)) {
      CO_RETURN_IF_ERROR(co_await WriteRandom(disk, range));
    } else if (is(workload.zeroes)) {
      CO_RETURN_IF_ERROR(co_await ZeroRandom(disk, range));
    } else if (is(workload.discards)) {
      CO_RETURN_IF_ERROR(co_await Discard(disk, range, workload));
    } else {
      CO_RETURN_IF_ERROR(co_await ReadAndCompare(disk, range));
    }
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ImageModel::WriteRandom(GuestDisk& disk, Range range) {
  // Memory of any alignment, too.
  const AlignedBuffer buffer(range.length + 1);
  const std::span<std::byte> bytes =
      buffer.span().subspan(random_() % 4 == 0 ? 1 : 0, range.length);
  FillRandom(bytes);
  CO_RETURN_IF_ERROR(co_await disk.Write(GuestOffset(range.begin), bytes));
  std::memcpy(bytes_.data() + range.begin, bytes.data(), range.length);
  co_return absl::OkStatus();
}

// All clusters that the range touches, each of which compresses well, a little or not at all. None
// is there any more: a compressed cluster replaces no other.
Task<absl::Status> ImageModel::WriteCompressed(GuestDisk& disk, Range range, Workload workload) {
  const uint64_t cluster = workload.cluster_bytes;
  const uint64_t begin = range.begin / cluster * cluster;
  const uint64_t end = std::min<uint64_t>(
      (range.begin + range.length + cluster - 1) / cluster * cluster, bytes_.size());
  const AlignedBuffer buffer(end - begin);
  FillRandom(buffer.span());
  for (uint64_t at = 0; at < buffer.size(); at += cluster) {
    const uint64_t length = std::min<uint64_t>(cluster, buffer.size() - at);
    std::memset(buffer.data() + at, static_cast<int>(random_() % 4), length * (random_() % 4) / 3);
  }
  RangeLock::Hold hold(in_use_, begin, end);
  co_await hold;
  CO_RETURN_IF_ERROR(co_await disk.Discard(GuestOffset(begin), end - begin));
  CO_RETURN_IF_ERROR(co_await disk.WriteCompressed(GuestOffset(begin), buffer.span()));
  std::memcpy(bytes_.data() + begin, buffer.data(), buffer.size());
  co_return absl::OkStatus();
}

Task<absl::Status> ImageModel::ZeroRandom(GuestDisk& disk, Range range) {
  const auto manner = random_() % 2 == 0 ? ZeroManner::kKeepSpace : ZeroManner::kMayUnmap;
  CO_RETURN_IF_ERROR(co_await disk.WriteZeroes(GuestOffset(range.begin), range.length, manner));
  std::memset(bytes_.data() + range.begin, 0, range.length);
  co_return absl::OkStatus();
}

Task<absl::Status> ImageModel::Discard(GuestDisk& disk, Range range, Workload workload) {
  CO_RETURN_IF_ERROR(co_await disk.Discard(GuestOffset(range.begin), range.length));
  const uint64_t cluster = workload.cluster_bytes;
  const uint64_t begin = (range.begin + cluster - 1) / cluster * cluster;
  uint64_t end = range.begin + range.length;
  if (end < bytes_.size()) end = end / cluster * cluster;
  if (workload.discards_zero && begin < end) std::memset(bytes_.data() + begin, 0, end - begin);
  co_return absl::OkStatus();
}

Task<absl::Status> ImageModel::ReadAndCompare(GuestDisk& disk, Range range) {
  const AlignedBuffer buffer(range.length + 1);
  const std::span<std::byte> bytes =
      buffer.span().subspan(random_() % 4 == 0 ? 1 : 0, range.length);
  FillRandom(bytes.first(std::min<size_t>(64, bytes.size())));
  CO_RETURN_IF_ERROR(co_await disk.Read(GuestOffset(range.begin), bytes));
  const std::byte* expected = bytes_.data() + range.begin;
  const auto [found, wanted] = std::mismatch(bytes.begin(), bytes.end(), expected);
  if (found == bytes.end()) co_return absl::OkStatus();
  co_return absl::DataLossError(
      absl::StrFormat("guest byte %#x reads as %#x where %#x was written (read of %d bytes at %#x)",
                      range.begin + (found - bytes.begin()), static_cast<int>(*found),
                      static_cast<int>(*wanted), range.length, range.begin));
}

// Lengths from a byte to three clusters, offsets on clusters, on sectors, or anywhere; half of them
// in the first quarter of the disk, so that requests meet.
ImageModel::Range ImageModel::RandomRange(const Workload& workload) {
  const uint64_t cluster = workload.cluster_bytes;
  const uint64_t units[] = {1, std::min<uint64_t>(512, cluster), 4096, cluster};
  const uint64_t unit = units[random_() % 4];
  const uint64_t end = random_() % 2 == 0 ? bytes_.size() / 4 + 1 : bytes_.size();
  const uint64_t begin = random_() % end / unit * unit;
  uint64_t most = random_() % 4 == 0 ? 3 * cluster : std::min<uint64_t>(cluster, 8192);
  if (workload.large_bytes > 0 && random_() % 16 == 0) most = workload.large_bytes;
  uint64_t length = 1 + random_() % most;
  if (random_() % 2 == 0) length = (length + unit - 1) / unit * unit;
  return {begin, std::min(length, bytes_.size() - begin)};
}

void ImageModel::FillRandom(std::span<std::byte> bytes) {
  for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
    const uint64_t word = random_();
    std::memcpy(bytes.data() + at, &word, std::min(sizeof(word), bytes.size() - at));
  }
}

}  // namespace ringcow
