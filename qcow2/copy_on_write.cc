#include "qcow2/copy_on_write.h"

#include <sys/uio.h>

#include <optional>

#include "absl/container/inlined_vector.h"
#include "engine/scope.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr size_t kZeroBytes = 65536;
alignas(4096) constexpr std::byte kZeroes[kZeroBytes] = {};

// What goes out in one write: zeroes or what was copied, the guest's bytes, and the same again.
using Vectors = absl::InlinedVector<iovec, 4>;

// A write does not change what an iovec points to, but iovec has no const form.
void Append(Vectors& vectors, std::span<const std::byte> bytes) {
  if (!bytes.empty()) {
    vectors.push_back({const_cast<std::byte*>(bytes.data()), bytes.size()});
  }
}

void AppendZeroes(Vectors& vectors, uint64_t length) {
  for (; length > kZeroBytes; length -= kZeroBytes) Append(vectors, kZeroes);
  Append(vectors, std::span(kZeroes).first(length));
}

}  // namespace

Task<absl::StatusOr<CopyOnWrite::Filling>> CopyOnWrite::Prepare(FilledRun filled, Mapping mapping,
                                                                GuestOffset offset,
                                                                uint64_t length) {
  const Geometry& geometry = metadata_.geometry;
  const uint64_t unit = geometry.subcluster_bytes();
  const GuestOffset end = offset + length;
  Filling filling{
      .host = geometry.OffsetOf(filled.run.first) + geometry.OffsetInCluster(filled.begin),
      .head = {filled.begin, offset - filled.begin},
      .tail = {end, filled.end - end}};
  Side& head = filling.head;
  Side& tail = filling.tail;
  // Within one subcluster all is mapped alike.
  const bool is_alike = head.offset == AlignDown(offset, unit) && filled.end == AlignUp(end, unit);
  bool was_zero = is_alike && reader_.IsZero(mapping);
  if (!was_zero) {
    CO_ASSIGN_OR_RETURN(head.is_zero, co_await reader_.AreKnownZero(head.offset, head.length));
    CO_ASSIGN_OR_RETURN(tail.is_zero, co_await reader_.AreKnownZero(tail.offset, tail.length));
  }
  const bool is_whole = head.length == 0 && tail.length == 0;
  filling.is_alone = is_whole || (filled.run.is_zero && head.is_zero && tail.is_zero);
  if (!filled.run.is_zero || !head.is_zero || !tail.is_zero) co_return filling;
  if (!was_zero) {
    CO_ASSIGN_OR_RETURN(was_zero, co_await reader_.AreKnownZero(offset, length));
  }
  // Without the write there are zeroes, which is what the guest saw before if it saw zeroes.
  if (was_zero) filling.exposure = Exposure::kSame;
  co_return filling;
}

Task<absl::Status> CopyOnWrite::Fill(Filling filling, std::span<const std::byte> from) {
  if (filling.is_alone) {
    co_return co_await metadata_.data_disk.Write(filling.host_of_data(), from);
  }
  const Side head = filling.head;
  const Side tail = filling.tail;
  const uint64_t head_copied = head.is_zero ? 0 : head.length;
  const uint64_t tail_copied = tail.is_zero ? 0 : tail.length;
  // The tail begins on a page of its own, for O_DIRECT.
  const uint64_t tail_at = AlignUp(head_copied, kBufferAlignment);
  const BufferPool::Buffer copied = buffers_.Get(tail_at + tail_copied);
  const std::span<std::byte> head_bytes = copied.span().first(head_copied);
  const std::span<std::byte> tail_bytes = copied.span().subspan(tail_at, tail_copied);

  Vectors vectors;
  if (head.is_zero) AppendZeroes(vectors, head.length);
  Append(vectors, head_bytes);
  Append(vectors, from);
  Append(vectors, tail_bytes);
  if (tail.is_zero) AppendZeroes(vectors, tail.length);

  Disk& disk = metadata_.data_disk;
  Chain chain = disk.NewChain();
  const bool copies = head_copied + tail_copied > 0;
  if (copies && GoesByStages()) {
    CO_RETURN_IF_ERROR(co_await PassBeforeReading());
  } else if (copies && AppendRead(chain, head, head_bytes) && AppendRead(chain, tail, tail_bytes)) {
    chain.WriteV(filling.host, vectors, Content::kData).WithoutDrain().OnLane(Lane::kData);
    if (chain.is_possible() && (co_await chain).ok()) co_return absl::OkStatus();
  }
  // Also behind a chain that has failed: what only interrupted it is tried again here, and what
  // cannot succeed fails here for its own reason.
  CO_RETURN_IF_ERROR(co_await ReadSides(head, head_bytes, tail, tail_bytes));
  co_return co_await disk.WriteV(filling.host, vectors);
}

Task<absl::Status> CopyOnWrite::PassBeforeReading() {
  co_await metadata_.events->Pass(DebugEvent::kCowRead);
  // Somebody else may have met a corruption meanwhile.
  co_return metadata_.write_back.failure();
}

bool CopyOnWrite::AppendRead(Chain& chain, Side side, std::span<std::byte> into) const {
  if (into.empty()) return true;
  const std::optional<StoredBytes> stored = reader_.TryLocate(side.offset, into.size());
  if (!stored.has_value() || !metadata_.data_disk.CanLink(*stored->disk)) return false;
  chain.Read(*stored->disk, stored->offset, into, Content::kData);
  return true;
}

Task<absl::Status> CopyOnWrite::ReadSides(Side head, std::span<std::byte> head_bytes, Side tail,
                                          std::span<std::byte> tail_bytes) {
  if (tail_bytes.empty() && head_bytes.empty()) co_return absl::OkStatus();
  if (tail_bytes.empty()) co_return co_await reader_.Read(head.offset, head_bytes);
  if (head_bytes.empty()) co_return co_await reader_.Read(tail.offset, tail_bytes);
  Scope both(metadata_.disk.loop());
  both.Spawn(reader_.Read(head.offset, head_bytes));
  both.Spawn(reader_.Read(tail.offset, tail_bytes));
  co_return co_await both.Join();
}

}  // namespace ringcow
