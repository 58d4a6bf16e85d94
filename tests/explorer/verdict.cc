#include "tests/explorer/verdict.h"

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/loop.h"
#include "engine/status_macros.h"
#include "engine/task.h"
#include "engine/testing/sim_disk.h"
#include "qcow2/format/feature_bits.h"
#include "qcow2/image.h"
#include "qcow2/read_header.h"
#include "tests/support/checked.h"
#include "tests/support/image_model.h"

namespace ringcow {
namespace {

Task<absl::Status> OpenAndReadAll(Disk& disk, OpenOptions options, std::span<std::byte> into) {
  options.read_only = true;
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<Image> image, co_await Image::Open(disk, options));
  co_return co_await image->Read(GuestOffset(0), into);
}

bool HasReserveRecord(Disk& disk) {
  const absl::StatusOr<Header> header = disk.loop().Run(ReadHeader(disk));
  return header.ok() && (header->autoclear_features & kAutoclearReserveRecord) != 0;
}

Task<absl::Status> OpenForWriting(Disk& disk, OpenOptions options) {
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<Image> image, co_await Image::Open(disk, options));
  co_return absl::OkStatus();
}

absl::Status WorkAndClose(Disk& disk, const OpenOptions& options, ImageModel& model,
                          const ImageModel::Workload& workload) {
  Loop& loop = disk.loop();
  const absl::StatusOr<std::unique_ptr<Image>> image = loop.Run(Image::Open(disk, options));
  RETURN_IF_ERROR(image.status());
  RETURN_IF_ERROR(model.Run(**image, workload));
  return loop.Run((*image)->Close());
}

}  // namespace

absl::string_view NameOf(Verdict::Kind kind) {
  switch (kind) {
    case Verdict::Kind::kGood:
      return "good";
    case Verdict::Kind::kCorrupt:
      return "corrupt";
    case Verdict::Kind::kUnreadable:
      return "unreadable";
    case Verdict::Kind::kWrongData:
      return "wrong data";
    case Verdict::Kind::kReclaimed:
      return "reclaimed";
    case Verdict::Kind::kUnusable:
      return "unusable";
  }
  return "?";
}

std::string Judge::Harm(Disk& disk) const {
  return scenario_.takes_snapshots() ? FindingsExceptHarmlessCopied(disk)
                                     : FindingsWithoutLeaks(disk);
}

Verdict Judge::Of(const DiskImage& state, size_t position) {
  Loop loop;
  SimDisk disk(loop, {.alignment = scenario_.disk_alignment, .latency = 1, .record = false}, state);
  if (std::string wrong = Harm(disk); !wrong.empty()) {
    return {Verdict::Kind::kCorrupt, std::move(wrong)};
  }
  Verdict verdict = OfGuest(disk, position);
  if (verdict.good() && HasReserveRecord(disk)) return OfReclaiming(disk, position);
  return verdict;
}

Verdict Judge::OfGuest(Disk& disk, size_t position) {
  Loop& loop = disk.loop();
  if (const absl::Status read = loop.Run(OpenAndReadAll(disk, WithBacking({}), bytes_.span()));
      !read.ok()) {
    return {Verdict::Kind::kUnreadable, read.ToString()};
  }
  std::string wrong = guest_.CheckAfterCrash(bytes_.span(), position);
  return {wrong.empty() ? Verdict::Kind::kGood : Verdict::Kind::kWrongData, std::move(wrong)};
}

Verdict Judge::OfReclaiming(Disk& disk, size_t position) {
  const absl::Status opened = disk.loop().Run(OpenForWriting(disk, WithBacking({})));
  if (!opened.ok()) return {Verdict::Kind::kReclaimed, opened.ToString()};
  if (std::string wrong = Harm(disk); !wrong.empty()) {
    return {Verdict::Kind::kReclaimed, std::move(wrong)};
  }
  const Verdict verdict = OfGuest(disk, position);
  return verdict.good() ? verdict : Verdict{Verdict::Kind::kReclaimed, verdict.what};
}

Verdict Judge::OfGoingOn(const DiskImage& state, uint64_t seed) {
  Loop loop;
  SimDisk disk(loop, {.seed = seed, .alignment = scenario_.disk_alignment, .record = false}, state);
  const auto unusable = [](absl::string_view when, absl::string_view what) {
    return Verdict{Verdict::Kind::kUnusable, absl::StrCat(when, ": ", what)};
  };
  absl::Status status = loop.Run(OpenAndReadAll(disk, WithBacking({}), bytes_.span()));
  if (!status.ok()) return unusable("when it is read", status.ToString());

  ImageModel model(loop, {bytes_.span().begin(), bytes_.span().end()}, seed);
  status = WorkAndClose(
      disk, WithBacking(scenario_.open), model,
      {.workers = 2,
       .requests = 8,
       .cluster_bytes = scenario_.create.cluster_size,
       .flushes = 15,
       .discards_zero = scenario_.create.version > 2 || scenario_.inherited_units == 0});
  if (!status.ok()) return unusable("when it is written to", status.ToString());
  if (const std::string wrong = Harm(disk); !wrong.empty()) {
    return unusable("after it was written to", wrong);
  }
  const absl::StatusOr<std::unique_ptr<Image>> again = loop.Run(Image::Open(disk, WithBacking({})));
  if (!again.ok()) return unusable("when it is opened again", again.status().ToString());
  status = model.Compare(**again);
  if (!status.ok()) return unusable("after it was written to", status.ToString());
  return Verdict();
}

}  // namespace ringcow
