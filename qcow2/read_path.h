#ifndef RINGCOW_QCOW2_READ_PATH_H_
#define RINGCOW_QCOW2_READ_PATH_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/task.h"
#include "qcow2/compressed_reader.h"
#include "qcow2/format/units.h"
#include "qcow2/guest_disk.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"

namespace ringcow {

// Guest reads: one disk request for each piece that is mapped to neighbouring host bytes, all of
// them at once. What no cluster holds is the backing file's; where that ends, or without one, it
// reads as zeroes.
class ReadPath {
 public:
  // `backing` may be null.
  ReadPath(Metadata& metadata, Mapper& mapper, GuestDisk* backing)
      : metadata_(metadata), mapper_(mapper), backing_(backing), compressed_(metadata) {}

  // `into` is not empty and lies inside the virtual disk, rounded up to a cluster.
  Task<absl::Status> Read(GuestOffset offset, std::span<std::byte> into);

  // Whether bytes that are mapped like this are zeroes, wherever they lie.
  bool IsZero(const Mapping& mapping) const {
    return mapping.kind == Mapping::Kind::kZero ||
           (mapping.kind == Mapping::Kind::kUnallocated && backing_ == nullptr);
  }
  // Whether metadata tells, without reading them, that all these bytes are zeroes.
  Task<absl::StatusOr<bool>> AreKnownZero(GuestOffset offset, uint64_t length);
  // Where these bytes are stored, see GuestDisk::TryLocate; it stays so for as long as nobody
  // changes how they are mapped.
  std::optional<StoredBytes> TryLocate(GuestOffset offset, uint64_t length) const;
  // The first of these bytes, and those that are alike.
  Task<absl::StatusOr<GuestExtent>> Find(GuestOffset offset, uint64_t length);

 private:
  Task<absl::Status> ReadPieces(GuestOffset offset, std::span<std::byte> into, Mapping first);
  Task<absl::Status> ReadPiece(GuestOffset offset, std::span<std::byte> into, Mapping mapping);
  Task<absl::Status> ReadBacking(GuestOffset offset, std::span<std::byte> into);
  // How many bytes from `offset` on the backing file has.
  uint64_t BytesInBacking(GuestOffset offset, uint64_t length) const;

  Metadata& metadata_;
  Mapper& mapper_;
  GuestDisk* const backing_;
  CompressedReader compressed_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_READ_PATH_H_
