#include "cli/cache_policy.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "engine/status_macros.h"
#include "qcow2/forwarding_disk.h"

namespace ringcow {
namespace {

class PolicedDisk final : public ForwardingDisk {
 public:
  PolicedDisk(const CachePolicy& policy, std::unique_ptr<GuestDisk> disk)
      : ForwardingDisk(std::move(disk)), policy_(policy) {}

  // A writethrough image writes its metadata before it acknowledges; the flush adds the data of
  // writes that changed none, and costs nothing where everything is durable already.
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) override {
    CO_RETURN_IF_ERROR(co_await disk().Write(offset, from));
    co_return co_await EndChange();
  }
  Task<absl::Status> WriteCompressed(GuestOffset offset, std::span<const std::byte> from) override {
    CO_RETURN_IF_ERROR(co_await disk().WriteCompressed(offset, from));
    co_return co_await EndChange();
  }
  Task<absl::Status> WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) override {
    CO_RETURN_IF_ERROR(co_await disk().WriteZeroes(offset, length, manner));
    co_return co_await EndChange();
  }
  Task<absl::Status> Discard(GuestOffset offset, uint64_t length) override {
    CO_RETURN_IF_ERROR(co_await disk().Discard(offset, length));
    co_return co_await EndChange();
  }
  Task<absl::Status> Resize(uint64_t size, Preallocation preallocation) override {
    CO_RETURN_IF_ERROR(co_await disk().Resize(size, preallocation));
    co_return co_await EndChange();
  }
  Task<absl::Status> Flush() override {
    if (policy_.no_flush) co_return absl::OkStatus();
    co_return co_await disk().Flush();
  }

 private:
  Task<absl::Status> EndChange() {
    if (!policy_.writethrough) co_return absl::OkStatus();
    co_return co_await disk().Flush();
  }

  const CachePolicy policy_;
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

absl::Status SetCacheMode(absl::string_view what, absl::string_view mode, CachePolicy& policy) {
  const std::optional<CachePolicy> parsed = ParseCacheMode(mode);
  if (!parsed.has_value()) {
    return absl::InvalidArgumentError(absl::StrFormat("Invalid %s option: %s", what, mode));
  }
  policy = *parsed;
  return absl::OkStatus();
}

std::unique_ptr<GuestDisk> ApplyCachePolicy(const CachePolicy& policy,
                                            std::unique_ptr<GuestDisk> disk) {
  if (!policy.writethrough && !policy.no_flush) return disk;
  return std::make_unique<PolicedDisk>(policy, std::move(disk));
}

}  // namespace ringcow
