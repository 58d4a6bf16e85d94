#include "bench/copying_disk.h"

#include <cstring>

#include "bench/workload.h"
#include "engine/status_macros.h"

namespace ringcow {

Task<absl::Status> CopyingDisk::Write(GuestOffset offset, std::span<const std::byte> from) {
  const GuestOffset begin = AlignDown(offset, kBenchClusterBytes);
  const BufferPool::Buffer cluster = clusters_.Get(kBenchClusterBytes);
  const std::span<std::byte> head = cluster.span().first(offset - begin);
  const std::span<std::byte> tail = cluster.span().subspan(head.size() + from.size());
  if (!head.empty()) CO_RETURN_IF_ERROR(co_await base_.Read(begin, head));
  if (!tail.empty()) CO_RETURN_IF_ERROR(co_await base_.Read(offset + from.size(), tail));
  std::memcpy(cluster.data() + head.size(), from.data(), from.size());
  co_return co_await disk().Write(begin, cluster.span());
}

}  // namespace ringcow
