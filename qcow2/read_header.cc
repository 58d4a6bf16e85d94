#include "qcow2/read_header.h"

#include <algorithm>
#include <cstdint>

#include "engine/aligned_buffer.h"
#include "engine/host_offset.h"
#include "engine/status_macros.h"

namespace ringcow {

Task<absl::StatusOr<Header>> ReadHeader(Disk& disk, HeaderChecks checks) {
  const AlignedBuffer prefix(kBufferAlignment);
  CO_RETURN_IF_ERROR(co_await disk.Read(HostOffset(0), prefix.span(), Content::kHeader));
  const uint64_t prefix_in_file = std::min<uint64_t>(disk.size(), prefix.size());
  CO_ASSIGN_OR_RETURN(const uint64_t cluster_bytes,
                      ReadClusterBytes(prefix.span().first(prefix_in_file)));

  const AlignedBuffer cluster(std::max<uint64_t>(cluster_bytes, kBufferAlignment));
  CO_RETURN_IF_ERROR(co_await disk.Read(HostOffset(0), cluster.span(), Content::kHeader));
  const uint64_t in_file = std::min(disk.size(), cluster_bytes);
  co_return ParseHeader(cluster.span().first(in_file), disk.size(), checks);
}

}  // namespace ringcow
