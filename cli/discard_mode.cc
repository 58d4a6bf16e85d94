#include "cli/discard_mode.h"

#include <utility>

#include "qcow2/forwarding_disk.h"

namespace ringcow {
namespace {

class SpaceKeeper final : public ForwardingDisk {
 public:
  using ForwardingDisk::ForwardingDisk;

  Task<absl::Status> WriteZeroes(GuestOffset offset, uint64_t length,
                                 ZeroManner /*manner*/) override {
    return disk().WriteZeroes(offset, length, ZeroManner::kKeepSpace);
  }
  Task<absl::Status> Discard(GuestOffset offset, uint64_t length) override {
    if (Has(offset, length)) co_return absl::OkStatus();
    co_return absl::OutOfRangeError("A discard beyond the end of the disk");
  }
};

}  // namespace

std::optional<DiscardMode> ParseDiscardMode(absl::string_view mode) {
  if (mode == "unmap" || mode == "on") return DiscardMode::kUnmap;
  if (mode == "ignore" || mode == "off") return DiscardMode::kIgnore;
  return std::nullopt;
}

std::unique_ptr<GuestDisk> ApplyDiscardMode(DiscardMode mode, std::unique_ptr<GuestDisk> disk) {
  if (mode == DiscardMode::kUnmap) return disk;
  return std::make_unique<SpaceKeeper>(std::move(disk));
}

}  // namespace ringcow
