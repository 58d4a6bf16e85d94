#include "qcow2/copy_on_read.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include "engine/aligned_buffer.h"
#include "engine/status_macros.h"
#include "engine/zeroes.h"

namespace ringcow {
namespace {

constexpr uint64_t kCopiedAtOnce = uint64_t{1} << 20;

}  // namespace

Task<absl::Status> CopyOnRead::Copy(GuestOffset offset, uint64_t length) {
  const uint64_t unit = metadata_.geometry.subcluster_bytes();
  const GuestOffset end =
      std::min(AlignUp(offset + length, unit), GuestOffset(metadata_.geometry.virtual_size()));
  GuestOffset begin = AlignDown(offset, unit);
  while (begin < end) {
    CO_ASSIGN_OR_RETURN(const Mapping mapping, co_await mapper_.Find(begin, end - begin));
    GuestOffset next = begin + mapping.bytes;
    if (mapping.kind == Mapping::Kind::kUnallocated) {
      next = std::min(next, begin + kCopiedAtOnce);
      CO_RETURN_IF_ERROR(co_await CopyPiece(begin, next));
    }
    begin = next;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> CopyOnRead::CopyPiece(GuestOffset begin, GuestOffset end) {
  const Geometry& geometry = metadata_.geometry;
  const AlignedBuffer buffer(end - begin);
  RangeLock::Hold hold(changing_, geometry.ClusterStart(begin).value(),
                       AlignUp(end, geometry.cluster_bytes()).value());
  co_await hold;
  while (begin < end) {
    CO_ASSIGN_OR_RETURN(const Mapping mapping, co_await mapper_.Find(begin, end - begin));
    if (mapping.kind == Mapping::Kind::kUnallocated) {
      const std::span<std::byte> bytes = buffer.span().first(mapping.bytes);
      CO_RETURN_IF_ERROR(co_await reader_.Read(begin, bytes));
      const bool is_zero_cluster = geometry.version() >= 3 && AreZeroes(bytes);
      CO_RETURN_IF_ERROR(is_zero_cluster ? co_await zeroer_.ZeroLocked(begin, bytes.size())
                                         : co_await writer_.WriteLocked(begin, bytes));
    }
    begin += mapping.bytes;
  }
  co_return absl::OkStatus();
}

}  // namespace ringcow
