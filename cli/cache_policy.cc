#include "cli/cache_policy.h"

#include <utility>

#include "engine/status_macros.h"

namespace ringcow {
namespace {

class PolicedDisk final : public GuestDisk {
 public:
  PolicedDisk(const CachePolicy& policy, std::unique_ptr<GuestDisk> disk)
      : policy_(policy), disk_(std::move(disk)) {}

  uint64_t size() const override { return disk_->size(); }
  Task<absl::Status> Read(GuestOffset offset, std::span<std::byte> into) override {
    return disk_->Read(offset, into);
  }
  // A writethrough image writes its metadata before it acknowledges; the flush adds the data of
  // writes that changed none, and costs nothing where everything is durable already.
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) override {
    CO_RETURN_IF_ERROR(co_await disk_->Write(offset, from));
    co_return co_await EndChange();
  }
  Task<absl::Status> WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) override {
    CO_RETURN_IF_ERROR(co_await disk_->WriteZeroes(offset, length, manner));
    co_return co_await EndChange();
  }
  Task<absl::Status> Discard(GuestOffset offset, uint64_t length) override {
    CO_RETURN_IF_ERROR(co_await disk_->Discard(offset, length));
    co_return co_await EndChange();
  }
  Task<absl::StatusOr<GuestExtent>> Find(GuestOffset offset, uint64_t length) override {
    return disk_->Find(offset, length);
  }
  Task<absl::StatusOr<bool>> AreKnownZero(GuestOffset offset, uint64_t length) override {
    return disk_->AreKnownZero(offset, length);
  }
  Task<absl::Status> Flush() override {
    if (policy_.no_flush) co_return absl::OkStatus();
    co_return co_await disk_->Flush();
  }
  Task<absl::Status> Close() override { return disk_->Close(); }
  const DiskCounters& counters() const override { return disk_->counters(); }
  void ResetCounters() override { disk_->ResetCounters(); }

 private:
  Task<absl::Status> EndChange() {
    if (!policy_.writethrough) co_return absl::OkStatus();
    co_return co_await disk_->Flush();
  }

  const CachePolicy policy_;
  const std::unique_ptr<GuestDisk> disk_;
};

}  // namespace

std::optional<CachePolicy> ParseCacheMode(absl::string_view mode) {
  if (mode == "writeback") return CachePolicy{};
  if (mode == "none" || mode == "off") return CachePolicy{.direct = true};
  if (mode == "writethrough") return CachePolicy{.writethrough = true};
  if (mode == "directsync") return CachePolicy{.direct = true, .writethrough = true};
  if (mode == "unsafe") return CachePolicy{.no_flush = true};
  return std::nullopt;
}

std::unique_ptr<GuestDisk> ApplyCachePolicy(const CachePolicy& policy,
                                            std::unique_ptr<GuestDisk> disk) {
  if (!policy.writethrough && !policy.no_flush) return disk;
  return std::make_unique<PolicedDisk>(policy, std::move(disk));
}

}  // namespace ringcow
