#ifndef RINGCOW_QCOW2_READ_PATH_H_
#define RINGCOW_QCOW2_READ_PATH_H_

#include <cstddef>
#include <span>

#include "absl/status/status.h"
#include "engine/task.h"
#include "qcow2/format/units.h"
#include "qcow2/mapper.h"
#include "qcow2/metadata.h"

namespace ringcow {

// Guest reads: one disk request for each piece that is mapped to neighbouring host bytes, all of
// them at once; what no cluster holds reads as zeroes.
class ReadPath {
 public:
  ReadPath(Metadata& metadata, Mapper& mapper) : metadata_(metadata), mapper_(mapper) {}

  // `into` is not empty and lies inside the virtual disk.
  Task<absl::Status> Read(GuestOffset offset, std::span<std::byte> into);

 private:
  Task<absl::Status> ReadPieces(GuestOffset offset, std::span<std::byte> into, Mapping first);
  Task<absl::Status> ReadPiece(GuestOffset offset, std::span<std::byte> into, Mapping mapping);

  Metadata& metadata_;
  Mapper& mapper_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_READ_PATH_H_
