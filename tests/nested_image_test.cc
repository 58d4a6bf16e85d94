// An image that is stored in what the guest of another image sees. Both are sound, and the guest of
// the outer one finds what it flushed, whenever the power fails, and whichever I/O of the disk
// below both fails.
//
// (The outer image is the one that is looked at; it lies in the inner one, nearer to the disk.)

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "engine/testing/crash_point.h"
#include "engine/testing/sanitized.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/forwarding_disk.h"
#include "qcow2/guest_as_disk.h"
#include "qcow2/image.h"
#include "tests/explorer/crash_states.h"
#include "tests/explorer/failure_kind.h"
#include "tests/explorer/remnant.h"
#include "tests/support/checked.h"
#include "tests/support/hosts.h"
#include "tests/support/image_model.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;

constexpr uint64_t kGuestBytes = 64 << 10;
constexpr uint64_t kSector = 512;

struct Shape {
  const char* name;
  uint64_t inner_bytes;  // what its guest sees; 0: it grows with the image that is in it
};
std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.name; }

constexpr Shape kShapes[] = {{"Fixed", 256 << 10}, {"Growing", 0}};

// Says that everything is durable: a negative control.
class ForgetfulDisk final : public ForwardingDisk {
 public:
  using ForwardingDisk::ForwardingDisk;
  Task<absl::Status> Flush() override { co_return absl::OkStatus(); }
};

enum class Flaw : uint8_t { kNone, kFlushesAreForgotten };

// Two images in one disk, from the destruction of the outer one to that of the inner one.
struct Nest {
  Image* inner_image = nullptr;
  std::unique_ptr<GuestDisk> inner;
  std::unique_ptr<GuestAsDisk> between;
  std::unique_ptr<Image> outer;
};

absl::StatusOr<Nest> OpenInner(Disk& disk, bool read_only, Flaw flaw) {
  OpenOptions options;
  options.cache_slice_bytes = 512;
  options.read_only = read_only;
  ASSIGN_OR_RETURN(std::unique_ptr<Image> image, Open(disk, options));
  Nest nest;
  nest.inner_image = image.get();
  nest.inner = std::move(image);
  if (flaw == Flaw::kFlushesAreForgotten) {
    nest.inner = std::make_unique<ForgetfulDisk>(std::move(nest.inner));
  }
  nest.between = std::make_unique<GuestAsDisk>(disk.loop(), *nest.inner, "between",
                                               GuestAsDisk::BeyondEnd::kGrows);
  return nest;
}

absl::StatusOr<Nest> OpenNest(Disk& disk, bool read_only, Flaw flaw = Flaw::kNone) {
  ASSIGN_OR_RETURN(Nest nest, OpenInner(disk, read_only, flaw));
  OpenOptions options;
  options.cache_slice_bytes = 512;
  options.read_only = read_only;
  ASSIGN_OR_RETURN(nest.outer, Open(*nest.between, options));
  return nest;
}

absl::Status Close(Loop& loop, Nest nest) {
  absl::Status status = loop.Run(nest.outer->Close());
  status.Update(loop.Run(nest.inner->Close()));
  return status;
}

void CreateNest(Disk& disk, uint64_t inner_bytes) {
  ASSERT_EQ(Create(disk, {.virtual_size = inner_bytes, .cluster_size = 4096}), absl::OkStatus());
  absl::StatusOr<Nest> nest = OpenInner(disk, /*read_only=*/false, Flaw::kNone);
  ASSERT_TRUE(nest.ok()) << nest.status();
  ASSERT_EQ(Create(*nest->between, {.virtual_size = kGuestBytes, .cluster_size = 1024}),
            absl::OkStatus());
  ASSERT_EQ(disk.loop().Run(nest->inner->Close()), absl::OkStatus());
}

// What the guest did, sector by sector: each write fills sectors with its own number, from 1 on.
struct History {
  struct Write {
    size_t begun_at = 0;  // position in the trace
    uint64_t first = 0;   // sector
    uint64_t sectors = 0;
  };
  struct Flush {
    size_t ended_at = 0;
    size_t writes = 0;  // those before it
  };
  std::vector<Write> writes;
  std::vector<Flush> flushes;

  size_t Promised(size_t position) const {
    size_t promised = 0;
    for (const Flush& flush : flushes) {
      if (flush.ended_at <= position) promised = flush.writes;
    }
    return promised;
  }
  // Whether the sector may hold `number` (0: zeroes), when so many writes were promised, at
  // `position`.
  bool Allows(uint64_t sector, size_t number, size_t promised, size_t position) const {
    for (size_t i = writes.size(); i > number; --i) {
      const Write& write = writes[i - 1];
      const bool covers = sector >= write.first && sector < write.first + write.sectors;
      if (covers && i <= promised) return false;  // something older
    }
    if (number == 0) return true;
    if (number > writes.size()) return false;
    const Write& write = writes[number - 1];
    return sector >= write.first && sector < write.first + write.sectors &&
           write.begun_at <= position;
  }
};

class NestedImageTest : public testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    SimDisk disk(loop_, {.record = false});
    ASSERT_NO_FATAL_FAILURE(CreateNest(disk, GetParam().inner_bytes));
    prepared_ = disk.content();
  }

  // The guest writes and flushes; what failed is not promised.
  void Work(SimDisk& disk, Nest& nest, uint64_t seed, History& history) const;
  // What is wrong with what is left; empty when nothing is.
  std::string Judge(const DiskImage& state, const History& history, size_t position,
                    bool goes_on) const;
  std::string FindViolation(Flaw flaw);
  bool RunWithFault(FailureKind kind, uint64_t n, std::string& wrong) const;

  Loop loop_;
  DiskImage prepared_;
  size_t states_ = 0;
};

void NestedImageTest::Work(SimDisk& disk, Nest& nest, uint64_t seed, History& history) const {
  std::mt19937_64 random(seed);
  for (int i = 0; i < 24; ++i) {
    if (i % 4 == 3) {
      const size_t writes = history.writes.size();
      if (!disk.loop().Run(nest.outer->Flush()).ok()) return;
      history.flushes.push_back({disk.trace().size(), writes});
      continue;
    }
    const uint64_t sectors = 1 + random() % 6;
    const uint64_t first = random() % (kGuestBytes / kSector - sectors);
    history.writes.push_back({disk.trace().size(), first, sectors});
    const Bytes bytes(sectors * kSector, static_cast<std::byte>(history.writes.size()));
    // A write that fails may have been carried out in part.
    if (!disk.loop().Run(nest.outer->Write(GuestOffset(first * kSector), bytes)).ok()) return;
  }
}

std::string Live(Loop& loop, Image& image, const History& history, size_t position) {
  Bytes found(kGuestBytes);
  const absl::Status read = loop.Run(image.Read(GuestOffset(0), found));
  if (!read.ok()) return read.ToString();
  const size_t promised = history.Promised(position);
  for (uint64_t sector = 0; sector < kGuestBytes / kSector; ++sector) {
    const std::span<const std::byte> bytes = std::span(found).subspan(sector * kSector, kSector);
    const bool is_whole = std::ranges::count(bytes, bytes.front()) == std::ssize(bytes);
    const auto number = static_cast<size_t>(bytes.front());
    if (!is_whole || !history.Allows(sector, number, promised, position)) {
      return absl::StrCat("sector ", sector, " has ", number, " where ", promised,
                          " writes were flushed");
    }
  }
  return "";
}

std::string NestedImageTest::Judge(const DiskImage& state, const History& history, size_t position,
                                   bool goes_on) const {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, state);
  if (std::string harm = FindingsWithoutLeaks(disk); !harm.empty()) return "inner: " + harm;
  absl::StatusOr<Nest> nest = OpenNest(disk, /*read_only=*/!goes_on);
  if (!nest.ok()) return nest.status().ToString();
  if (std::string harm = FindingsWithoutLeaks(*nest->between); !harm.empty()) {
    return "outer: " + harm;
  }
  if (std::string wrong = Live(loop, *nest->outer, history, position); !wrong.empty()) return wrong;
  if (!goes_on) return "";
  const Bytes bytes(2048, std::byte{0xee});
  absl::Status status = loop.Run(nest->outer->Write(GuestOffset(0), bytes));
  status.Update(Close(loop, *std::move(nest)));
  if (!status.ok()) return "going on: " + status.ToString();
  return FindingsWithoutLeaks(disk);
}

std::string NestedImageTest::FindViolation(Flaw flaw) {
  SimDisk disk(loop_, {.seed = 5}, prepared_);
  History history;
  absl::StatusOr<Nest> nest = OpenNest(disk, /*read_only=*/false, flaw);
  if (!nest.ok()) return nest.status().ToString();
  Work(disk, *nest, /*seed=*/7, history);
  EXPECT_EQ(history.flushes.size(), 6U);
  EXPECT_EQ(Close(loop_, *std::move(nest)), absl::OkStatus());

  const StateBudget budget = {.subsets = 16, .samples = 4, .torn = 4};
  std::mt19937_64 random(1);
  absl::flat_hash_set<std::pair<uint64_t, size_t>> judged;
  std::string violation;
  CrashPoint point(disk.trace(), prepared_);
  do {
    ForEachCrash(point, budget, random, [&](const Remnants& remnants) {
      const DiskImage state = StateOf(point, remnants);
      const size_t promised = history.Promised(point.position());
      if (!judged.insert({state.Fingerprint(), promised}).second) return true;
      const bool goes_on = ++states_ % 20 == 0;
      violation = Judge(state, history, point.position(), goes_on);
      if (!violation.empty()) absl::StrAppend(&violation, "\n", Describe(point, remnants));
      return violation.empty();
    });
  } while (violation.empty() && point.Advance());
  return violation;
}

bool NestedImageTest::RunWithFault(FailureKind kind, uint64_t n, std::string& wrong) const {
  Loop loop;
  SimDisk disk(loop, {.seed = n}, prepared_);
  disk.SetFaults(FailNth(kind, n));
  History history;
  absl::StatusOr<Nest> nest = OpenNest(disk, /*read_only=*/false);
  if (nest.ok()) Work(disk, *nest, n, history);
  const bool has_failed = disk.requests() > n;
  disk.SetFaults(nullptr);
  const bool is_broken = nest.ok() && !(nest->outer->failure().ok() &&  //
                                        nest->inner_image->failure().ok());
  if (nest.ok()) {
    const absl::Status closed = Close(loop, *std::move(nest));
    // Whoever was told of no failure by the images can close them.
    if (closed.ok() == is_broken) wrong = absl::StrCat("closing: ", closed.ToString());
  }
  if (wrong.empty()) {
    wrong = Judge(disk.content(), history, disk.trace().size(), /*goes_on=*/n % 5 == 0);
  }
  return has_failed;
}

INSTANTIATE_TEST_SUITE_P(All, NestedImageTest, testing::ValuesIn(kShapes),
                         testing::PrintToStringParamName());

TEST_P(NestedImageTest, IsADiskLikeAnyOther) {
  SimDisk disk(loop_, {.record = false}, prepared_);
  ImageModel model(loop_, kGuestBytes, 3);
  for (int round = 0; round < 3; ++round) {
    absl::StatusOr<Nest> nest = OpenNest(disk, /*read_only=*/false);
    ASSERT_TRUE(nest.ok()) << nest.status();
    ASSERT_EQ(model.Run(*nest->outer, {.requests = 40, .cluster_bytes = 1024}), absl::OkStatus());
    EXPECT_EQ(model.Compare(*nest->outer), absl::OkStatus());
    EXPECT_EQ(nest->between->damage(), absl::OkStatus());
    ASSERT_EQ(Close(loop_, *std::move(nest)), absl::OkStatus());
    EXPECT_EQ(Findings(disk), "");
    nest = OpenNest(disk, /*read_only=*/true);
    ASSERT_TRUE(nest.ok()) << nest.status();
    EXPECT_EQ(Findings(*nest->between), "");
  }
}

TEST_P(NestedImageTest, WhatWasFlushedIsThereAfterAPowerCut) {
  EXPECT_EQ(FindViolation(Flaw::kNone), "");
  EXPECT_GT(states_, 500U);
}

TEST_P(NestedImageTest, ControlFlushesThatStopHalfWayDownAreFound) {
  EXPECT_NE(FindViolation(Flaw::kFlushesAreForgotten), "");
}

TEST_P(NestedImageTest, EveryRequestFailsOnce) {
  for (const FailureKind kind : kAllFailureKinds) {
    std::string wrong;
    uint64_t n = static_cast<uint64_t>(kind) % kFaultStride;
    while (RunWithFault(kind, n, wrong)) {
      ASSERT_EQ(wrong, "") << NameOf(kind) << ", request " << n;
      n += kFaultStride;
    }
    EXPECT_EQ(wrong, "");
    EXPECT_GT(n, 5U);
  }
}

}  // namespace
}  // namespace ringcow
