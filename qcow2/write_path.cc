#include "qcow2/write_path.h"

#include <sys/uio.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/scope.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

using Kind = L2Entry::Kind;

constexpr size_t kZeroBytes = 65536;
alignas(4096) constexpr std::byte kZeroes[kZeroBytes] = {};

// A write does not change what an iovec points to, but iovec has no const form.
void Append(std::vector<iovec>& vectors, const std::byte* bytes, uint64_t length) {
  if (length > 0) vectors.push_back({const_cast<std::byte*>(bytes), length});
}

void AppendZeroes(std::vector<iovec>& vectors, uint64_t length) {
  for (; length > kZeroBytes; length -= kZeroBytes) Append(vectors, kZeroes, kZeroBytes);
  Append(vectors, kZeroes, length);
}

bool IsInPlace(const Mapping& mapping) { return mapping.kind == Kind::kNormal && mapping.copied; }

}  // namespace

WritePath::WritePath(Metadata& metadata, Mapper& mapper, Allocator& allocator)
    : metadata_(metadata),
      mapper_(mapper),
      allocator_(allocator),
      allocating_(metadata.disk.loop()) {}

Task<absl::Status> WritePath::Write(GuestOffset offset, std::span<const std::byte> from) {
  CO_ASSIGN_OR_RETURN(const Mapping mapping, co_await mapper_.Find(offset, from.size()));
  if (mapping.bytes == from.size()) co_return co_await WritePiece(offset, from, mapping);
  co_return co_await WritePieces(offset, from, mapping);
}

Task<absl::Status> WritePath::WritePieces(GuestOffset offset, std::span<const std::byte> from,
                                          Mapping first) {
  Scope pieces(metadata_.disk.loop());
  absl::StatusOr<Mapping> mapping = first;
  for (;;) {
    pieces.Spawn(WritePiece(offset, from.first(mapping->bytes), *mapping));
    offset += mapping->bytes;
    from = from.subspan(mapping->bytes);
    if (from.empty()) break;
    mapping = co_await mapper_.Find(offset, from.size());
    if (!mapping.ok()) break;
  }
  absl::Status status = co_await pieces.Join();
  status.Update(mapping.status());
  co_return status;
}

Task<absl::Status> WritePath::WritePiece(GuestOffset offset, std::span<const std::byte> from,
                                         Mapping mapping) {
  if (IsInPlace(mapping)) co_return co_await metadata_.disk.Write(mapping.host, from);
  co_return co_await WriteAllocating(offset, from);
}

Task<absl::Status> WritePath::WriteAllocating(GuestOffset offset, std::span<const std::byte> from) {
  const Geometry& geometry = metadata_.geometry;
  const GuestOffset end = AlignUp(offset + from.size(), geometry.cluster_bytes());
  RangeLock::Hold hold(allocating_, geometry.ClusterStart(offset).value(), end.value());
  co_await hold;
  while (!from.empty()) {
    // Who held the lock before may have allocated some of it.
    CO_ASSIGN_OR_RETURN(const Mapping mapping, co_await mapper_.Find(offset, from.size()));
    uint64_t written = mapping.bytes;
    if (IsInPlace(mapping)) {
      CO_RETURN_IF_ERROR(co_await metadata_.disk.Write(mapping.host, from.first(written)));
    } else {
      CO_ASSIGN_OR_RETURN(written,
                          co_await AllocateAndWrite(offset, from.first(mapping.bytes), mapping));
    }
    offset += written;
    from = from.subspan(written);
  }
  co_return absl::OkStatus();
}

Task<absl::StatusOr<uint64_t>> WritePath::AllocateAndWrite(GuestOffset offset,
                                                           std::span<const std::byte> from,
                                                           Mapping mapping) {
  const Geometry& geometry = metadata_.geometry;
  if (mapping.kind == Kind::kNormal || mapping.kind == Kind::kCompressed) {
    CO_RETURN_IF_ERROR(co_await CheckOwned(mapping));
    CO_RETURN_IF_ERROR(co_await metadata_.disk.Write(mapping.host, from));
    co_return from.size();
  }
  CO_ASSIGN_OR_RETURN(const Mapper::L2Slice slice, co_await mapper_.SliceForChange(offset));
  const uint64_t in_cluster = geometry.OffsetInCluster(offset);
  const uint64_t clusters = std::min(slice.entries, geometry.ClustersFor(in_cluster + from.size()));
  from =
      from.first(std::min<uint64_t>(from.size(), clusters * geometry.cluster_bytes() - in_cluster));

  // A zero cluster that kept its host cluster gets it back; what that holds is not what it reads.
  const bool keeps_cluster = mapping.kind == Kind::kZeroAllocated;
  AllocatedRun run{{geometry.ClusterOf(mapping.host), clusters}, /*is_zero=*/false};
  if (keeps_cluster) {
    CO_RETURN_IF_ERROR(co_await CheckOwned(mapping));
  } else {
    CO_ASSIGN_OR_RETURN(run, co_await allocator_.Allocate(clusters));
  }
  absl::Status status = co_await WriteInto(run, in_cluster, from);
  if (status.ok()) status = co_await mapper_.Enter(slice, run);
  if (status.ok()) co_return from.size();
  if (!keeps_cluster) status.Update(co_await allocator_.Free(run));
  co_return status;
}

Task<absl::Status> WritePath::CheckOwned(Mapping mapping) {
  if (mapping.kind == Kind::kCompressed) {
    co_return absl::UnimplementedError(absl::StrFormat(
        "'%s': writing to a compressed cluster is not supported", metadata_.disk.name()));
  }
  if (mapping.copied) co_return absl::OkStatus();
  const ClusterIndex first = metadata_.geometry.ClusterOf(mapping.host);
  const ClusterIndex last = metadata_.geometry.ClusterOf(mapping.host + (mapping.bytes - 1));
  for (ClusterIndex cluster = first; cluster <= last; ++cluster) {
    CO_ASSIGN_OR_RETURN(const uint64_t refcount, co_await allocator_.refcounts().Get(cluster));
    if (refcount == 1) continue;
    co_return absl::UnimplementedError(absl::StrFormat(
        "'%s': the data cluster at host offset %#x is shared (refcount %d)", metadata_.disk.name(),
        metadata_.geometry.OffsetOf(cluster).value(), refcount));
  }
  co_return absl::OkStatus();
}

// Around the guest's bytes a new cluster reads as zeroes: they are written with it, unless they are
// on the disk already.
Task<absl::Status> WritePath::WriteInto(const AllocatedRun& run, uint64_t in_cluster,
                                        std::span<const std::byte> from) {
  const HostOffset host = metadata_.geometry.OffsetOf(run.first);
  const uint64_t run_bytes = run.count * metadata_.geometry.cluster_bytes();
  if (run.is_zero || from.size() == run_bytes) {
    co_return co_await metadata_.disk.Write(host + in_cluster, from);
  }
  std::vector<iovec> vectors;
  AppendZeroes(vectors, in_cluster);
  Append(vectors, from.data(), from.size());
  AppendZeroes(vectors, run_bytes - in_cluster - from.size());
  co_return co_await metadata_.disk.WriteV(host, vectors);
}

}  // namespace ringcow
