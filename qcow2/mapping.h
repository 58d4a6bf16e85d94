#ifndef RINGCOW_QCOW2_MAPPING_H_
#define RINGCOW_QCOW2_MAPPING_H_

#include <cstdint>

#include "engine/host_offset.h"
#include "qcow2/format/l2_entry.h"

namespace ringcow {

// Guest bytes that are mapped alike.
struct Mapping {
  enum class Kind : uint8_t {
    kUnallocated,  // read from the backing file, or zeroes
    kZero,         // read as zeroes
    kNormal,       // read from the host cluster
    kCompressed,   // read from a compressed extent
  };

  Kind kind = Kind::kUnallocated;
  // A host cluster belongs to them: always for kNormal; for kZero when it is kept for later writes;
  // for kUnallocated when it holds other subclusters of the same guest cluster.
  bool has_cluster = false;
  bool copied = false;            // the host clusters' refcounts are one: they may be written to
  HostOffset host{};              // of the first byte, where has_cluster; neighbours are neighbours
  CompressedExtent compressed{};  // kCompressed: of the one guest cluster
  uint64_t bytes = 0;

  // The guest's bytes may be written to where they are.
  bool is_writable() const { return kind == Kind::kNormal && copied; }
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_MAPPING_H_
