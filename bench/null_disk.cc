#include "bench/null_disk.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "engine/invariant.h"

namespace ringcow {
namespace {

constexpr uint64_t kPageBytes = 4096;

std::byte* Reserve() {
  void* memory = mmap(nullptr, NullDisk::kMaxBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  RINGCOW_INVARIANT(memory != MAP_FAILED, "address space is there to be had");
  return static_cast<std::byte*>(memory);
}

// Pages that were never touched stay so.
void Zero(std::byte* begin, std::byte* end) {
  const auto address = [](const std::byte* at) { return reinterpret_cast<uintptr_t>(at); };
  const uint64_t to_page = (kPageBytes - address(begin) % kPageBytes) % kPageBytes;
  std::byte* const pages = std::min(begin + to_page, end);
  std::byte* const tail = std::max(pages, end - address(end) % kPageBytes);
  std::memset(begin, 0, static_cast<size_t>(pages - begin));
  std::memset(tail, 0, static_cast<size_t>(end - tail));
  if (tail > pages) madvise(pages, static_cast<size_t>(tail - pages), MADV_DONTNEED);
}

}  // namespace

NullDisk::NullDisk(Loop& loop) : Disk(loop, {.name = "null"}), metadata_(Reserve()) {
  loop.AddSource(*this);
}

NullDisk::~NullDisk() {
  loop().RemoveSource(*this);
  munmap(metadata_, kMaxBytes);
}

// In their order is what links and drains ask for.
void NullDisk::StartChain(Chain& chain) {
  for (Request& member : chain.members()) queued_.push_back(&member);
}

void NullDisk::Reap() {
  if (queued_.empty()) return;
  ++turns_;
  completing_.swap(queued_);
  for (Request* request : completing_) {
    Perform(*request);
    Finish(*request, static_cast<int64_t>(request->is_transfer() ? request->length : 0));
  }
  completing_.clear();
}

void NullDisk::Perform(const Request& request) {
  const uint64_t offset = request.offset.value();
  if (request.op == Op::kTruncate) {
    if (offset < kMaxBytes) Zero(metadata_ + offset, metadata_ + kMaxBytes);
    return;
  }
  if (request.op == Op::kPunch || request.op == Op::kWriteZeroes) {
    const uint64_t end = std::min(request.end().value(), kMaxBytes);
    if (offset < end) Zero(metadata_ + offset, metadata_ + end);
    return;
  }
  if (!request.is_transfer() || request.content == Content::kData) return;
  RINGCOW_INVARIANT(request.end().value() <= kMaxBytes, "metadata lies where it can be kept");
  std::byte* at = metadata_ + offset;
  for (const iovec& vector : request.memory()) {
    if (request.op == Op::kRead) {
      std::memcpy(vector.iov_base, at, vector.iov_len);
    } else {
      std::memcpy(at, vector.iov_base, vector.iov_len);
    }
    at += vector.iov_len;
  }
}

}  // namespace ringcow
