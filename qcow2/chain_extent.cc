#include "qcow2/chain_extent.h"

#include <algorithm>

#include "engine/status_macros.h"

namespace ringcow {

Task<absl::StatusOr<ChainExtent>> FindInChain(const ImageChain& chain, GuestOffset offset,
                                              uint64_t length, size_t first_depth) {
  for (size_t depth = first_depth;; ++depth) {
    GuestDisk& layer = *chain.layers()[depth].guest;
    // What its backing file does not have, a layer says itself: so there is something here.
    length = std::min(length, layer.size() - offset.value());
    CO_ASSIGN_OR_RETURN(const GuestExtent extent, co_await layer.Find(offset, length));
    const bool is_last = depth + 1 == chain.layers().size();
    if (extent.allocated || extent.zero || is_last) co_return ChainExtent{extent, depth};
    length = extent.bytes;
  }
}

}  // namespace ringcow
