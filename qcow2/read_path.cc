#include "qcow2/read_path.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "engine/scope.h"
#include "engine/status_macros.h"

namespace ringcow {

Task<absl::Status> ReadPath::Read(GuestOffset offset, std::span<std::byte> into) {
  // Most reads need no coroutine but this one.
  std::optional<absl::StatusOr<Mapping>> found = mapper_.TryFind(offset, into.size());
  if (!found.has_value()) found = co_await mapper_.Find(offset, into.size());
  CO_RETURN_IF_ERROR(found->status());
  const Mapping mapping = **found;
  if (mapping.bytes == into.size()) {
    if (mapping.kind == Mapping::Kind::kNormal) {
      co_return co_await metadata_.data_disk.Read(mapping.host, into);
    }
    co_return co_await ReadPiece(offset, into, mapping);
  }
  co_return co_await ReadPieces(offset, into, mapping);
}

Task<absl::Status> ReadPath::ReadPieces(GuestOffset offset, std::span<std::byte> into,
                                        Mapping first) {
  Scope pieces(metadata_.disk.loop());
  absl::StatusOr<Mapping> mapping = first;
  for (;;) {
    pieces.Spawn(ReadPiece(offset, into.first(mapping->bytes), *mapping));
    offset += mapping->bytes;
    into = into.subspan(mapping->bytes);
    if (into.empty()) break;
    mapping = co_await mapper_.Find(offset, into.size());
    if (!mapping.ok()) break;
  }
  absl::Status status = co_await pieces.Join();
  status.Update(mapping.status());
  co_return status;
}

Task<absl::Status> ReadPath::ReadPiece(GuestOffset offset, std::span<std::byte> into,
                                       Mapping mapping) {
  switch (mapping.kind) {
    case Mapping::Kind::kUnallocated:
      co_return co_await ReadBacking(offset, into);
    case Mapping::Kind::kZero:
      std::memset(into.data(), 0, into.size());
      co_return absl::OkStatus();
    case Mapping::Kind::kNormal:
      co_return co_await metadata_.data_disk.Read(mapping.host, into);
    case Mapping::Kind::kCompressed:
      break;
  }
  co_return co_await compressed_.Read(mapping.compressed,
                                      metadata_.geometry.OffsetInCluster(offset), into);
}

uint64_t ReadPath::BytesInBacking(GuestOffset offset, uint64_t length) const {
  if (backing_ == nullptr || offset.value() >= backing_->size()) return 0;
  // There the backing file has its disk, and this image what is nobody else's.
  if (offset >= metadata_.geometry.vm_state_begin()) return 0;
  return std::min(length, backing_->size() - offset.value());
}

Task<absl::Status> ReadPath::ReadBacking(GuestOffset offset, std::span<std::byte> into) {
  const uint64_t there = BytesInBacking(offset, into.size());
  if (there < into.size()) std::memset(into.data() + there, 0, into.size() - there);
  if (there == 0) co_return absl::OkStatus();
  co_return co_await backing_->Read(offset, into.first(there));
}

std::optional<StoredBytes> ReadPath::TryLocate(GuestOffset offset, uint64_t length) const {
  const std::optional<absl::StatusOr<Mapping>> found = mapper_.TryFind(offset, length);
  if (!found.has_value() || !found->ok() || (*found)->bytes < length) return std::nullopt;
  const Mapping& mapping = **found;
  if (mapping.kind == Mapping::Kind::kUnallocated) {
    const bool is_there = length > 0 && BytesInBacking(offset, length) == length;
    return is_there ? backing_->TryLocate(offset, length) : std::nullopt;
  }
  Disk& disk = metadata_.data_disk;
  const bool is_there = mapping.kind == Mapping::Kind::kNormal &&
                        mapping.host.value() <= disk.size() &&
                        length <= disk.size() - mapping.host.value();
  return is_there ? std::optional(StoredBytes{&disk, mapping.host}) : std::nullopt;
}

Task<absl::StatusOr<GuestExtent>> ReadPath::Find(GuestOffset offset, uint64_t length) {
  CO_ASSIGN_OR_RETURN(const Mapping mapping, co_await mapper_.Describe(offset, length));
  GuestExtent extent{.bytes = mapping.bytes};
  switch (mapping.kind) {
    case Mapping::Kind::kUnallocated:
      extent.allocated = false;
      extent.zero = BytesInBacking(offset, length) == 0;
      break;
    case Mapping::Kind::kZero:
      extent.zero = true;
      break;
    case Mapping::Kind::kCompressed:
      extent.compressed = true;
      break;
    case Mapping::Kind::kNormal:
      break;
  }
  if (mapping.has_cluster) extent.host = mapping.host;
  co_return extent;
}

Task<absl::StatusOr<bool>> ReadPath::AreKnownZero(GuestOffset offset, uint64_t length) {
  while (length > 0) {
    CO_ASSIGN_OR_RETURN(const Mapping mapping, co_await mapper_.Find(offset, length));
    if (mapping.kind == Mapping::Kind::kUnallocated) {
      if (const uint64_t there = BytesInBacking(offset, mapping.bytes); there > 0) {
        CO_ASSIGN_OR_RETURN(const bool are_zero, co_await backing_->AreKnownZero(offset, there));
        if (!are_zero) co_return false;
      }
    } else if (mapping.kind != Mapping::Kind::kZero) {
      co_return false;
    }
    offset += mapping.bytes;
    length -= mapping.bytes;
  }
  co_return true;
}

}  // namespace ringcow
