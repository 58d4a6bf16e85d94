#include "qcow2/read_path.h"

#include <cstring>

#include "absl/strings/str_format.h"
#include "engine/scope.h"
#include "engine/status_macros.h"

namespace ringcow {

Task<absl::Status> ReadPath::Read(GuestOffset offset, std::span<std::byte> into) {
  CO_ASSIGN_OR_RETURN(const Mapping mapping, co_await mapper_.Find(offset, into.size()));
  if (mapping.bytes == into.size()) co_return co_await ReadPiece(offset, into, mapping);
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
    case L2Entry::Kind::kUnallocated:
    case L2Entry::Kind::kZeroPlain:
    case L2Entry::Kind::kZeroAllocated:
      std::memset(into.data(), 0, into.size());
      co_return absl::OkStatus();
    case L2Entry::Kind::kNormal:
      co_return co_await metadata_.disk.Read(mapping.host, into);
    case L2Entry::Kind::kCompressed:
      break;
  }
  co_return absl::UnimplementedError(
      absl::StrFormat("'%s': the cluster at guest offset %#x is compressed, which is not supported",
                      metadata_.disk.name(), offset.value()));
}

}  // namespace ringcow
