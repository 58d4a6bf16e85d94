#include "engine/rings.h"

#include <algorithm>

#include "absl/memory/memory.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

constexpr unsigned kDataFlags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
                                IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
                                IORING_SETUP_TASKRUN_FLAG;
constexpr unsigned kMetadataFlags = IORING_SETUP_SUBMIT_ALL;

}  // namespace

absl::StatusOr<std::unique_ptr<Rings>> Rings::Create(Loop& loop, const Options& options) {
  auto rings = absl::WrapUnique(new Rings(loop));
  const Ring::Setup data = {options.sq_entries, options.cq_entries,
                            kDataFlags & options.allowed_flags};
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

size_t Rings::max_chain() const { return std::min(data_->max_chain(), metadata_->max_chain()); }

}  // namespace ringcow
