#include "qcow2/commit.h"

#include <cstdint>
#include <utility>

#include "engine/invariant.h"
#include "engine/status_macros.h"
#include "qcow2/copy_source.h"

namespace ringcow {

Task<absl::Status> Commit(const ImageChain& chain, CommitOptions options) {
  RINGCOW_INVARIANT(options.depth == 1 || !options.empties,
                    "an image is emptied only into its own backing file");
  const std::vector<ImageChain::Layer>& layers = chain.layers();
  if (options.depth == 0 || options.depth >= layers.size()) {
    co_return absl::FailedPreconditionError("Image does not have such a backing file");
  }
  std::vector<GuestDisk*> upper;
  upper.reserve(options.depth);
  for (size_t i = 0; i < options.depth; ++i) upper.push_back(layers[i].guest.get());
  co_return co_await CommitLayers(chain.file().disk().loop(), std::move(upper),
                                  *layers[options.depth].guest,
                                  options.empties ? chain.image() : nullptr,
                                  std::move(options.on_progress), options.bytes_per_second);
}

Task<absl::Status> CommitLayers(Loop& loop, std::vector<GuestDisk*> upper, GuestDisk& base,
                                Image* emptied, CopyProgress on_progress,
                                uint64_t bytes_per_second) {
  const uint64_t size = upper.front()->size();
  if (base.size() < size) CO_RETURN_IF_ERROR(co_await base.Resize(size, Preallocation::kOff));
  const CopySource source(std::move(upper));
  CopyLoop copy(loop, source, base,
                {.min_zeroes = 0,
                 .zero_manner = ZeroManner::kMayUnmap,
                 .bytes_per_second = bytes_per_second,
                 .on_progress = std::move(on_progress)});
  CO_RETURN_IF_ERROR(co_await copy.Run());
  // Durable before the image gives it up.
  CO_RETURN_IF_ERROR(co_await base.Flush());
  if (emptied == nullptr) co_return absl::OkStatus();
  co_return co_await emptied->Empty();
}

}  // namespace ringcow
