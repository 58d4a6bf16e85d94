#include "tests/differential/model.h"

#include <algorithm>
#include <utility>

namespace ringcow {
namespace {

using Kind = GuestRequest::Kind;

}  // namespace

Model::Model(const ImageSetup& setup, Bytes base)
    : cluster_bytes_(setup.create.cluster_size),
      keeps_discarded_(setup.keeps_discarded()),
      bytes_(base),
      base_(std::move(base)) {
  bytes_.resize(setup.create.virtual_size);
}

void Model::Apply(const Step& step) {
  switch (step.kind) {
    case Step::Kind::kRequests:
      for (const GuestRequest& request : step.requests) Apply(request);
      break;
    case Step::Kind::kCopyOnRead:
      break;
    case Step::Kind::kCreateSnapshot:
      snapshots_[step.snapshot] = bytes_;
      ++snapshots_made_;
      break;
    case Step::Kind::kApplySnapshot:
      bytes_ = snapshots_.at(step.snapshot);
      break;
    case Step::Kind::kDeleteSnapshot:
      snapshots_.erase(step.snapshot);
      break;
    case Step::Kind::kResize:
      bytes_.resize(step.size);
      for (auto& [name, bitmap] : bitmaps_) bitmap.Resize(step.size);
      break;
    case Step::Kind::kCommit:
      base_.resize(std::max(base_.size(), bytes_.size()));
      std::copy(bytes_.begin(), bytes_.end(), base_.begin());
      break;
    default:
      ApplyToBitmap(step);
      break;
  }
}

void Model::ApplyToBitmap(const Step& step) {
  if (step.kind == Step::Kind::kAddBitmap) {
    bitmaps_.emplace(step.bitmap, BitmapModel(step.granularity, step.enabled, bytes_.size()));
    ++bitmaps_made_;
    return;
  }
  BitmapModel& bitmap = bitmaps_.at(step.bitmap);
  switch (step.kind) {
    case Step::Kind::kRemoveBitmap:
      bitmaps_.erase(step.bitmap);
      break;
    case Step::Kind::kClearBitmap:
      bitmap.Clear();
      break;
    case Step::Kind::kMergeBitmap:
      bitmap.Merge(bitmaps_.at(step.source));
      break;
    default:
      bitmap.SetEnabled(step.kind == Step::Kind::kEnableBitmap);
      break;
  }
}

void Model::Apply(const GuestRequest& request) {
  uint64_t begin = request.offset;
  uint64_t end = request.offset + request.length;
  for (auto& [name, bitmap] : bitmaps_) bitmap.Change(begin, end);
  std::byte value{0};
  if (request.kind == Kind::kWrite || request.kind == Kind::kWriteCompressed) {
    value = std::byte{request.pattern};
  } else if (request.kind == Kind::kDiscard) {
    if (keeps_discarded_) return;
    begin = (begin + cluster_bytes_ - 1) / cluster_bytes_ * cluster_bytes_;
    if (end < bytes_.size()) end = end / cluster_bytes_ * cluster_bytes_;
  }
  if (begin >= end) return;
  std::fill(bytes_.begin() + static_cast<ptrdiff_t>(begin),
            bytes_.begin() + static_cast<ptrdiff_t>(end), value);
}

ImageState Model::state() const {
  ImageState state{.size = bytes_.size(),
                   .snapshots = {},
                   .snapshots_made = snapshots_made_,
                   .bitmaps = {},
                   .bitmaps_made = bitmaps_made_};
  for (const auto& [name, bytes] : snapshots_) state.snapshots.push_back(name);
  for (const auto& [name, bitmap] : bitmaps_) state.bitmaps.push_back(name);
  return state;
}

}  // namespace ringcow
