#include "qcow2/vm_state.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/active_l1.h"
#include "qcow2/format/geometry.h"
#include "qcow2/format/limits.h"

namespace ringcow {

GuestOffset VmState::OffsetOf(uint64_t position) const {
  return metadata_.geometry.vm_state_begin() + position;
}

GuestOffset VmState::End() const {
  return GuestOffset(metadata_.l1.entries() * metadata_.geometry.bytes_per_l2_table());
}

absl::Status VmState::CheckSupported() const {
  if (!metadata_.has_data_file()) return absl::OkStatus();
  return ErrnoStatus(ENOTSUP, absl::StrFormat("'%s': VM state in an image with a data file",
                                              metadata_.disk.name()));
}

absl::Status VmState::CheckWritable(uint64_t position, uint64_t length) const {
  RETURN_IF_ERROR(CheckSupported());
  const uint64_t most = kMaxL1Entries * metadata_.geometry.bytes_per_l2_table() -
                        metadata_.geometry.vm_state_begin().value();
  if (position <= most && length <= most - position) return absl::OkStatus();
  return ErrnoStatus(EFBIG,
                     absl::StrFormat("'%s': %d bytes of VM state from %#x on need an L1 table "
                                     "larger than the maximum of %d bytes",
                                     metadata_.disk.name(), length, position, kMaxL1Bytes));
}

bool VmState::HasRoom(uint64_t position, uint64_t length) const {
  return OffsetOf(position) + length <= End();
}

// By half at least, for a state is written from its beginning to its end.
Task<absl::Status> VmState::MakeRoom(uint64_t position, uint64_t length) {
  if (HasRoom(position, length)) co_return absl::OkStatus();
  const Geometry& geometry = metadata_.geometry;
  const uint64_t needed =
      DivideRoundUp((OffsetOf(position) + length).value(), geometry.bytes_per_l2_table());
  std::vector<L1Entry> l1 = ActiveL1(metadata_);
  l1.resize(std::min(std::max(needed, l1.size() + l1.size() / 2), kMaxL1Entries),
            L1Entry::Unallocated());
  co_return co_await ReplaceActiveL1(metadata_, allocator_, std::move(l1), geometry);
}

Task<absl::Status> VmState::Read(uint64_t position, std::span<std::byte> into) {
  const GuestOffset first = OffsetOf(0);
  const uint64_t there = first < End() ? End() - first : 0;
  const uint64_t mapped = position < there ? std::min<uint64_t>(there - position, into.size()) : 0;
  const std::span<std::byte> behind = into.subspan(mapped);
  if (!behind.empty()) std::memset(behind.data(), 0, behind.size());
  if (mapped == 0) co_return absl::OkStatus();
  co_return co_await reader_.Read(OffsetOf(position), into.first(mapped));
}

Task<absl::Status> VmState::Write(uint64_t position, std::span<const std::byte> from) {
  co_return co_await writer_.Write(OffsetOf(position), from);
}

}  // namespace ringcow
