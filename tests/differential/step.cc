#include "tests/differential/step.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace ringcow {
namespace {

using Kind = GuestRequest::Kind;

Kind RandomKind(std::mt19937_64& random) {
  constexpr Kind kKinds[] = {Kind::kWrite,           Kind::kWrite, Kind::kWrite,
                             Kind::kWriteCompressed, Kind::kZero,  Kind::kZeroAndUnmap,
                             Kind::kDiscard};
  return kKinds[random() % std::size(kKinds)];
}

// Offsets on clusters, subclusters and sectors, and anywhere; lengths up to four clusters.
GuestRequest RandomRequest(const ImageSetup& setup, uint64_t disk_bytes, std::mt19937_64& random) {
  GuestRequest request{.kind = RandomKind(random),
                       .pattern = static_cast<uint8_t>(1 + random() % 255)};
  const uint64_t cluster = setup.create.cluster_size;
  const uint64_t units[] = {cluster, cluster, std::max<uint64_t>(cluster / 32, 512), 512, 1};
  const uint64_t unit =
      request.kind == Kind::kWriteCompressed ? cluster : units[random() % std::size(units)];
  request.offset = random() % disk_bytes / unit * unit;
  const uint64_t most = random() % 3 == 0 ? 4 * cluster : cluster;
  request.length = std::max(unit, (1 + random() % most) / unit * unit);
  request.length = std::min(request.length, disk_bytes - request.offset);
  return request;
}

// When QEMU cuts a cluster in two, its bytes behind the new end are back when the disk grows again.
// In version 2 it cannot hide a longer backing file.
uint64_t RandomResize(const ImageSetup& setup, uint64_t size, std::mt19937_64& random) {
  const uint64_t cluster = setup.create.cluster_size;
  const uint64_t next = RandomSize(cluster, random);
  if (next < size) return std::min(size, (next + cluster - 1) / cluster * cluster);
  return setup.keeps_discarded() ? size : next;
}

std::string OneOf(const std::vector<std::string>& names, std::mt19937_64& random) {
  return names[random() % names.size()];
}

Step RandomBitmapStep(const ImageSetup& setup, const ImageState& state, std::mt19937_64& random) {
  using Kind = Step::Kind;
  constexpr size_t kMostBitmaps = 3;
  if (state.bitmaps.empty() || (state.bitmaps.size() < kMostBitmaps && random() % 3 == 0)) {
    constexpr uint64_t kSmallest = 512;
    return {.kind = Kind::kAddBitmap,
            .bitmap = absl::StrCat("b", state.bitmaps_made),
            .granularity = kSmallest << random() % (setup.create.cluster_size > 4096 ? 11 : 5),
            .enabled = random() % 4 != 0};
  }
  constexpr Kind kKinds[] = {Kind::kRemoveBitmap, Kind::kClearBitmap,   Kind::kEnableBitmap,
                             Kind::kEnableBitmap, Kind::kDisableBitmap, Kind::kMergeBitmap,
                             Kind::kMergeBitmap};
  return {.kind = kKinds[random() % std::size(kKinds)],
          .bitmap = OneOf(state.bitmaps, random),
          .source = OneOf(state.bitmaps, random)};
}

// QEMU discards the last cluster also where the disk ends in it, but then not its bytes in the data
// file, which show where that is raw.
void KeepLastCluster(const ImageSetup& setup, uint64_t disk_bytes, GuestRequest& request) {
  const uint64_t whole = disk_bytes / setup.create.cluster_size * setup.create.cluster_size;
  if (setup.data_file != DataFile::kRaw || request.kind != Kind::kDiscard) return;
  if (request.offset + request.length > whole) request.kind = Kind::kZeroAndUnmap;
}

}  // namespace

std::string CommandOf(const GuestRequest& request) {
  const std::string where = absl::StrFormat("%d %d", request.offset, request.length);
  switch (request.kind) {
    case Kind::kRead:
      return absl::StrCat("read ", where);
    case Kind::kWrite:
      return absl::StrFormat("write -P %d %s", request.pattern, where);
    case Kind::kWriteCompressed:
      return absl::StrFormat("write -c -P %d %s", request.pattern, where);
    case Kind::kZero:
      return absl::StrCat("write -z ", where);
    case Kind::kZeroAndUnmap:
      return absl::StrCat("write -z -u ", where);
    case Kind::kDiscard:
      return absl::StrCat("discard ", where);
  }
  return "";
}

std::vector<std::string> BitmapOptions(const Step& step) {
  switch (step.kind) {
    case Step::Kind::kAddBitmap: {
      std::vector<std::string> words = {"--add", "-g", absl::StrCat(step.granularity)};
      if (!step.enabled) words.emplace_back("--disable");
      return words;
    }
    case Step::Kind::kRemoveBitmap:
      return {"--remove"};
    case Step::Kind::kClearBitmap:
      return {"--clear"};
    case Step::Kind::kEnableBitmap:
      return {"--enable"};
    case Step::Kind::kDisableBitmap:
      return {"--disable"};
    case Step::Kind::kMergeBitmap:
      return {"--merge", step.source};
    default:
      return {};
  }
}

std::string Describe(const Step& step) {
  switch (step.kind) {
    case Step::Kind::kCopyOnRead:
    case Step::Kind::kRequests: {
      std::string text = step.kind == Step::Kind::kRequests ? "io" : "io -C";
      for (const GuestRequest& request : step.requests) {
        absl::StrAppend(&text, " -c '", CommandOf(request), "'");
      }
      return text;
    }
    case Step::Kind::kCreateSnapshot:
      return absl::StrCat("snapshot -c ", step.snapshot);
    case Step::Kind::kApplySnapshot:
      return absl::StrCat("snapshot -a ", step.snapshot);
    case Step::Kind::kDeleteSnapshot:
      return absl::StrCat("snapshot -d ", step.snapshot);
    case Step::Kind::kResize:
      return absl::StrCat("resize --shrink ", step.size);
    case Step::Kind::kCommit:
      return "commit";
    default:
      return absl::StrCat("bitmap ", absl::StrJoin(BitmapOptions(step), " "), " FILE ",
                          step.bitmap);
  }
}

Step RandomStep(const ImageSetup& setup, const ImageState& state, std::mt19937_64& random) {
  switch (random() % 13) {
    case 0:
    case 1:
      if (!setup.has_snapshots()) break;
      if (state.snapshots.size() < 3) {
        return {.kind = Step::Kind::kCreateSnapshot,
                .snapshot = absl::StrCat("s", state.snapshots_made)};
      }
      return {.kind = Step::Kind::kDeleteSnapshot, .snapshot = OneOf(state.snapshots, random)};
    case 2:
      if (state.snapshots.empty()) break;
      // Bitmaps do not know what differs.
      return {.kind = random() % 2 == 0 && state.bitmaps.empty() ? Step::Kind::kApplySnapshot
                                                                 : Step::Kind::kDeleteSnapshot,
              .snapshot = OneOf(state.snapshots, random)};
    case 3:
      // The snapshot table of version 2 cannot say how large each was.
      if (setup.create.version < 3 && !state.snapshots.empty()) break;
      return {.kind = Step::Kind::kResize, .size = RandomResize(setup, state.size, random)};
    case 4:
      // Snapshots read from the backing file too.
      if (setup.backing.empty() || !state.snapshots.empty()) break;
      return {.kind = Step::Kind::kCommit};
    case 5: {
      Step step{.kind = Step::Kind::kCopyOnRead};
      step.requests.push_back(RandomRequest(setup, state.size, random));
      step.requests.back().kind = Kind::kRead;
      if (!setup.backing.empty()) return step;
      break;
    }
    case 6:
    case 7:
    case 8:
      if (!setup.has_bitmaps()) break;
      return RandomBitmapStep(setup, state, random);
    default:
      break;
  }
  Step step;
  bool compresses = false;
  for (uint64_t i = 1 + random() % 8; i > 0; --i) {
    GuestRequest request = RandomRequest(setup, state.size, random);
    if (request.kind == Kind::kWriteCompressed && !setup.has_compression()) continue;
    KeepLastCluster(setup, state.size, request);
    if (request.kind == Kind::kWriteCompressed) {
      // QEMU compresses only into clusters that are not allocated. And it goes on writing to the
      // host cluster of its last compressed one, even if that was freed meanwhile.
      if (setup.keeps_discarded() || compresses) continue;
      compresses = true;
      step.requests.push_back(request);
      step.requests.back().kind = Kind::kDiscard;
    }
    step.requests.push_back(request);
  }
  return step;
}

}  // namespace ringcow
