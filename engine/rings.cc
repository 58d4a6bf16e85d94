#include "engine/rings.h"

#include <algorithm>
#include <cerrno>

#include "absl/memory/memory.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr unsigned kDataFlags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
                                IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
                                IORING_SETUP_TASKRUN_FLAG;
constexpr unsigned kMetadataFlags = IORING_SETUP_SUBMIT_ALL;

}  // namespace

absl::StatusOr<std::unique_ptr<Rings>> Rings::Create(Loop& loop, const Options& options) {
  auto rings = absl::WrapUnique(new Rings(loop, options));
  const Ring::Setup data = {options.sq_entries, options.cq_entries,
                            kDataFlags & options.allowed_flags, options.batch_share,
                            options.batch_nanoseconds};
  ASSIGN_OR_RETURN(rings->data_, Ring::Create(data, rings->counters_, rings->notices_));
  const Ring::Setup metadata = {options.metadata_sq_entries, options.metadata_cq_entries,
                                kMetadataFlags & rings->data_->flags()};
  ASSIGN_OR_RETURN(rings->metadata_, Ring::Create(metadata, rings->counters_, rings->notices_));
  loop.AddSource(*rings);
  return rings;
}

Rings::~Rings() {
  if (metadata_ != nullptr) loop_.RemoveSource(*this);
}

void Rings::Submit() {
  metadata_->Submit();
  data_->Submit();
}

void Rings::Reap() {
  metadata_->Reap();
  data_->Reap();
}

void Rings::Wait() {
  if (sync_inline_ && FinishedLoneFsync()) return;
  if (data_->requests() == 0) {
    metadata_->SubmitAndWait();
    return;
  }
  if (metadata_->requests() > 0) {
    metadata_->Submit();
    data_->Watch(*metadata_);
  }
  data_->SubmitAndWait();
}

// The loop has nothing else to do and nothing else to wait for: whatever a coroutine waits for in
// the end is a request of these rings.
bool Rings::FinishedLoneFsync() {
  if (data_->requests() > 0 && metadata_->requests() > 0) return false;
  Ring& busy = data_->requests() > 0 ? *data_ : *metadata_;
  if (!busy.HasLoneFsync()) return false;
  busy.FinishLoneFsync();
  return true;
}

absl::Status Rings::RegisterMemory(std::span<std::byte> memory) {
  const auto free = std::ranges::find_if(registered_memory_, &std::span<std::byte>::empty);
  const auto slot = static_cast<unsigned>(free - registered_memory_.begin());
  const int error = slot == Ring::kMemorySlots ? ENOSPC : data_->SetMemory(slot, memory);
  if (error != 0) return ErrnoStatus(error, "memory cannot be registered with io_uring");
  if (free == registered_memory_.end()) registered_memory_.emplace_back();
  registered_memory_[slot] = memory;
  return absl::OkStatus();
}

void Rings::UnregisterMemory(std::span<std::byte> memory) {
  for (unsigned slot = 0; slot < registered_memory_.size(); ++slot) {
    if (registered_memory_[slot].data() != memory.data()) continue;
    registered_memory_[slot] = {};
    data_->SetMemory(slot, {});
  }
}

std::optional<unsigned> Rings::SlotOf(const iovec& memory) const {
  const auto* const begin = static_cast<const std::byte*>(memory.iov_base);
  for (unsigned slot = 0; slot < registered_memory_.size(); ++slot) {
    const std::span<std::byte> registered = registered_memory_[slot];
    if (begin >= registered.data() &&
        begin + memory.iov_len <= registered.data() + registered.size()) {
      return slot;
    }
  }
  return std::nullopt;
}

std::optional<unsigned> Rings::RegisterFile(int fd) {
  const auto free = std::ranges::find(file_slots_, false);
  if (free == file_slots_.end()) return std::nullopt;
  const auto slot = static_cast<unsigned>(free - file_slots_.begin());
  if (data_->SetFile(slot, fd) != 0) return std::nullopt;
  if (metadata_->SetFile(slot, fd) != 0) {
    data_->SetFile(slot, -1);
    return std::nullopt;
  }
  *free = true;
  return slot;
}

void Rings::UnregisterFile(unsigned slot) {
  data_->SetFile(slot, -1);
  metadata_->SetFile(slot, -1);
  file_slots_[slot] = false;
}

size_t Rings::max_chain() const { return std::min(data_->max_chain(), metadata_->max_chain()); }

}  // namespace ringcow
