// Persistent dirty bitmaps when the power fails, or an I/O: whatever is left, a bitmap that does
// not say of itself that it is inconsistent calls everything dirty that was changed since.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "engine/testing/ignored_fsyncs.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/image.h"
#include "tests/explorer/failure_kind.h"
#include "tests/explorer/first_violation.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;
constexpr uint64_t kBytes = uint64_t{64} << 10;
constexpr uint64_t kGranularity = 512;

Task<absl::Status> Fill(Image& image, uint64_t offset, uint64_t length, int value) {
  const Bytes bytes(length, static_cast<std::byte>(value));
  co_return co_await image.Write(GuestOffset(offset), bytes);
}

Task<absl::Status> WriteSome(Image& image) {
  CO_RETURN_IF_ERROR(co_await Fill(image, 3 * kGranularity, 512, 7));
  CO_RETURN_IF_ERROR(co_await image.Flush());
  CO_RETURN_IF_ERROR(co_await image.Discard(GuestOffset(20 * kGranularity), 2048));
  CO_RETURN_IF_ERROR(co_await image.WriteZeroes(GuestOffset(0), 1000, ZeroManner::kKeepSpace));
  CO_RETURN_IF_ERROR(co_await Fill(image, kBytes - 512, 512, 8));
  co_return co_await image.Flush();
}

Task<absl::Status> RemoveBoth(Image& image) {
  CO_RETURN_IF_ERROR(co_await WriteSome(image));
  CO_RETURN_IF_ERROR(co_await image.RemoveBitmap("on"));
  co_return co_await image.RemoveBitmap("off");
}

Task<absl::Status> AddOne(Image& image) {
  CO_RETURN_IF_ERROR(co_await image.AddBitmap("new", kGranularity, true));
  co_return co_await WriteSome(image);
}

Task<absl::Status> Enable(Image& image) {
  CO_RETURN_IF_ERROR(co_await image.SetBitmapEnabled("off", true));
  co_return co_await WriteSome(image);
}

Task<absl::Status> Grow(Image& image) {
  CO_RETURN_IF_ERROR(co_await image.Resize(3 * kBytes, Preallocation::kOff));
  CO_RETURN_IF_ERROR(co_await WriteSome(image));
  co_return co_await Fill(image, 2 * kBytes, 512, 9);
}

Task<absl::Status> Shrink(Image& image) {
  CO_RETURN_IF_ERROR(co_await Fill(image, 3 * kGranularity, 512, 7));
  co_return co_await image.Resize(kBytes / 2, Preallocation::kOff);
}

struct Work {
  const char* name;
  Task<absl::Status> (*run)(Image& image);
};
std::ostream& operator<<(std::ostream& out, const Work& work) { return out << work.name; }

const Work kWorks[] = {{"Write", WriteSome}, {"RemoveBoth", RemoveBoth},
                       {"AddOne", AddOne},   {"Enable", Enable},
                       {"Grow", Grow},       {"Shrink", Shrink}};

// What the disk reads as, and its bitmaps.
struct View {
  Bytes bytes;
  std::vector<BitmapDirectoryEntry> bitmaps;
  std::vector<DirtyBitmap> bits;  // empty ones for those that are inconsistent
};

absl::StatusOr<View> Look(Disk& disk) {
  Loop& loop = disk.loop();
  ASSIGN_OR_RETURN(const std::unique_ptr<Image> image, Open(disk, ReadOnly()));
  View view;
  view.bytes.resize(image->size());
  RETURN_IF_ERROR(loop.Run(image->Read(GuestOffset(0), view.bytes)));
  ASSIGN_OR_RETURN(view.bitmaps, loop.Run(image->ListBitmaps()));
  for (const BitmapDirectoryEntry& entry : view.bitmaps) {
    DirtyBitmap bits(image->geometry(), entry.granularity_bits);
    if (entry.usable()) {
      ASSIGN_OR_RETURN(bits, loop.Run(image->ReadBitmap(entry.name)));
    }
    view.bits.push_back(std::move(bits));
  }
  return view;
}

class BitmapsCrashTest : public testing::TestWithParam<Work> {
 protected:
  void SetUp() override;
  // Does the work on a disk that has what was prepared. The image ends with or without success.
  static absl::Status Do(SimDisk& disk);
  std::string Violation(const DiskTrace& trace) {
    return FirstViolation(trace, prepared_, StateBudget(), states_, [this](const DiskImage& state) {
      return Judge(state, states_ % 20 == 0);
    });
  }
  std::string Judge(const DiskImage& state, bool goes_on);

  DiskImage prepared_;
  View before_;
  size_t states_ = 0;
  size_t valid_ = 0;   // bitmaps that claimed to be right
  size_t in_use_ = 0;  // and that did not
};

void BitmapsCrashTest::SetUp() {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false});
  ASSERT_EQ(Create(disk, {.virtual_size = kBytes, .cluster_size = 512}), absl::OkStatus());
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk);
  ASSERT_TRUE(image.ok()) << image.status();
  ASSERT_EQ(loop.Run((*image)->AddBitmap("on", kGranularity, true)), absl::OkStatus());
  ASSERT_EQ(loop.Run((*image)->AddBitmap("off", kGranularity, true)), absl::OkStatus());
  ASSERT_EQ(loop.Run(Fill(**image, 20 * kGranularity, 4096, 1)), absl::OkStatus());
  ASSERT_EQ(loop.Run((*image)->SetBitmapEnabled("off", false)), absl::OkStatus());
  ASSERT_EQ(loop.Run(Fill(**image, 0, 512, 2)), absl::OkStatus());
  ASSERT_EQ(loop.Run((*image)->Close()), absl::OkStatus());
  image->reset();
  prepared_ = disk.content();
  const absl::StatusOr<View> view = Look(disk);
  ASSERT_TRUE(view.ok()) << view.status();
  before_ = *view;
}

absl::Status BitmapsCrashTest::Do(SimDisk& disk) {
  OpenOptions options;
  options.cache_slice_bytes = 512;
  ASSIGN_OR_RETURN(const std::unique_ptr<Image> image, Open(disk, options));
  absl::Status status = disk.loop().Run(GetParam().run(*image));
  status.Update(disk.loop().Run(image->Close()));
  return status;
}

// A byte that differs from what was there before and that a bitmap calls clean, if there is one.
std::string CalledClean(const View& before, const View& now, size_t bitmap) {
  for (uint64_t i = 0; i < now.bytes.size(); ++i) {
    const bool is_changed =
        i < before.bytes.size() ? now.bytes[i] != before.bytes[i] : now.bytes[i] != std::byte{0};
    if (is_changed && !now.bits[bitmap].Get(GuestOffset(i))) {
      return absl::StrCat("bitmap '", now.bitmaps[bitmap].name, "' calls byte ", i, " clean");
    }
  }
  return "";
}

std::string BitmapsCrashTest::Judge(const DiskImage& state, bool goes_on) {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, state);
  if (std::string harm = FindingsWithoutLeaks(disk); !harm.empty()) return harm;
  const absl::StatusOr<View> view = Look(disk);
  if (!view.ok()) return view.status().ToString();
  for (size_t i = 0; i < view->bitmaps.size(); ++i) {
    const BitmapDirectoryEntry& entry = view->bitmaps[i];
    ++(entry.in_use ? in_use_ : valid_);
    if (entry.in_use) continue;
    if (entry.automatic) {
      if (std::string wrong = CalledClean(before_, *view, i); !wrong.empty()) return wrong;
    } else if (view->bits[i].set_bits() < before_.bits[1].set_bits()) {
      return absl::StrCat("bitmap '", entry.name, "' has lost bits");
    }
  }
  if (!goes_on) return "";
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk);
  if (!image.ok()) return image.status().ToString();
  for (const BitmapDirectoryEntry& entry : view->bitmaps) {
    const absl::Status removed = loop.Run((*image)->RemoveBitmap(entry.name));
    if (!removed.ok()) return removed.ToString();
  }
  absl::Status status = loop.Run((*image)->AddBitmap("again", kGranularity, true));
  status.Update(loop.Run(Fill(**image, 0, 512, 3)));
  status.Update(loop.Run((*image)->Close()));
  image->reset();
  if (!status.ok()) return absl::StrCat("going on: ", status.ToString());
  const absl::StatusOr<View> again = Look(disk);
  if (!again.ok()) return absl::StrCat("going on: ", again.status().ToString());
  if (again->bitmaps.size() != 1 || again->bits[0].set_bits() != 1) return "going on: other bits";
  return FindingsWithoutLeaks(disk);
}

INSTANTIATE_TEST_SUITE_P(All, BitmapsCrashTest, testing::ValuesIn(kWorks),
                         testing::PrintToStringParamName());

TEST_P(BitmapsCrashTest, NoBitmapCallsCleanWhatWasChanged) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    Loop loop;
    SimDisk disk(loop, {.seed = seed}, prepared_);
    ASSERT_EQ(Do(disk), absl::OkStatus());
    EXPECT_EQ(Findings(disk), "") << "with leaks";
    EXPECT_EQ(Violation(disk.trace()), "");
  }
  EXPECT_GT(states_, 20U);
  EXPECT_GT(valid_, 0U);
  EXPECT_GT(in_use_, 0U);
}

// The fsync behind the marks comes second, after the one that opens the image.
TEST_P(BitmapsCrashTest, ControlForgottenFsyncsOfTheMarksAreFound) {
  std::string found;
  for (uint64_t seed = 1; seed <= 8 && found.empty(); ++seed) {
    Loop loop;
    SimDisk disk(loop, {.seed = seed}, prepared_);
    ASSERT_EQ(Do(disk), absl::OkStatus());
    found = Violation(WithIgnoredFsyncs(disk.trace(), [](size_t n, Content) { return n > 0; }));
  }
  EXPECT_NE(found, "");
}

TEST_P(BitmapsCrashTest, EveryRequestFailsOnce) {
  for (const FailureKind kind : kAllFailureKinds) {
    uint64_t n = 0;
    for (bool failed = true; failed; ++n) {
      Loop loop;
      SimDisk disk(loop, {.seed = n + 1}, prepared_);
      disk.SetFaults(FailNth(kind, n));
      (void)Do(disk);  // what is left on the disk is judged
      failed = disk.requests() > n;
      EXPECT_EQ(Judge(disk.content(), /*goes_on=*/true), "") << NameOf(kind) << " at " << n;
      if (HasFailure()) return;
    }
    EXPECT_GT(n, 20U);
  }
}

}  // namespace
}  // namespace ringcow
