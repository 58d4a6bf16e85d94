#ifndef RINGCOW_QCOW2_CHAIN_EXTENT_H_
#define RINGCOW_QCOW2_CHAIN_EXTENT_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/task.h"
#include "qcow2/guest_disk.h"
#include "qcow2/image_chain.h"

namespace ringcow {

// What guest bytes are, and which layer of the chain says so.
struct ChainExtent {
  GuestExtent extent;
  size_t depth = 0;  // of the layer: 0 is the image itself

  bool is_data() const { return extent.allocated && !extent.zero; }
};

// What the bytes from `offset` on are, seen through all backing files from the layer at
// `first_depth` on: at least one of them, at most `length` > 0, which lie inside that layer.
// Metadata alone is read.
Task<absl::StatusOr<ChainExtent>> FindInChain(const ImageChain& chain, GuestOffset offset,
                                              uint64_t length, size_t first_depth = 0);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CHAIN_EXTENT_H_
