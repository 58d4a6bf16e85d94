#include "engine/testing/crash_point.h"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <memory>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/scope.h"
#include "engine/testing/await.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kInitialBlocks = 8;

// Blocks of eights.
DiskImage Eights() {
  DiskImage image;
  image.Write(0, std::vector<std::byte>(kInitialBlocks * kBlock, std::byte{8}));
  return image;
}

int ByteAt(const DiskImage& image, uint64_t offset) {
  std::byte byte{};
  image.Read(offset, {&byte, 1});
  return static_cast<int>(byte);
}

class CrashPointTest : public testing::Test {
 protected:
  CrashPointTest() { Open({}); }

  void Open(const SimDisk::Options& options) {
    disk_.reset();
    disk_ = std::make_unique<SimDisk>(loop_, options, Eights());
  }
  std::span<const std::byte> Block(int value, uint64_t length = kBlock) {
    blocks_.emplace_back(length);
    std::fill_n(blocks_.back().data(), length, static_cast<std::byte>(value));
    return blocks_.back().span();
  }
  IoAwaiter Write(uint64_t block, int value) {
    return disk_->Write(HostOffset(block * kBlock), Block(value));
  }
  absl::Status Await(IoAwaiter io) { return Perform(*disk_, io); }
  void FailNext(Fault fault) {
    const uint64_t ordinal = disk_->requests();
    disk_->SetFaults([=](const Request&, uint64_t i) { return i == ordinal ? fault : Fault(); });
  }
  // A crash after everything so far.
  CrashPoint CrashNow() const {
    CrashPoint point(disk_->trace(), disk_->initial());
    point.AdvanceTo(disk_->trace().size());
    return point;
  }
  static DiskImage WithAll(const CrashPoint& point) {
    DiskImage image = point.durable();
    for (const PendingChange& change : point.pending()) change.ApplyTo(image);
    return image;
  }

  Loop loop_;
  std::vector<AlignedBuffer> blocks_;
  std::unique_ptr<SimDisk> disk_;
};

TEST_F(CrashPointTest, AWriteIsVolatileUntilAnFsync) {
  ASSERT_TRUE(Await(Write(1, 1)).ok());
  CrashPoint point = CrashNow();
  EXPECT_TRUE(point.durable() == Eights());
  ASSERT_EQ(point.pending().size(), 1U);
  EXPECT_TRUE(point.pending()[0].completed());
  EXPECT_TRUE(WithAll(point) == disk_->content());

  ASSERT_TRUE(Await(disk_->Fdatasync()).ok());
  point = CrashNow();
  EXPECT_TRUE(point.durable() == disk_->content());
  EXPECT_EQ(point.pending().size(), 0U);
}

TEST_F(CrashPointTest, EveryChangeIsVolatileUntilAnFsync) {
  ASSERT_TRUE(Await(disk_->Punch(HostOffset(0), kBlock)).ok());
  ASSERT_TRUE(Await(disk_->WriteZeroes(HostOffset(kBlock), kBlock)).ok());
  ASSERT_TRUE(Await(disk_->Truncate(6 * kBlock)).ok());
  ASSERT_TRUE(Await(disk_->Allocate(HostOffset(0), 20 * kBlock)).ok());
  const CrashPoint before = CrashNow();
  EXPECT_TRUE(before.durable() == Eights());
  EXPECT_EQ(before.pending().size(), 4U);
  EXPECT_TRUE(WithAll(before) == disk_->content());
  // The reservation without the truncation before it: no byte is lost.
  DiskImage grown = before.durable();
  before.pending()[3].ApplyTo(grown);
  EXPECT_EQ(grown.size(), 20 * kBlock);
  EXPECT_EQ(ByteAt(grown, 7 * kBlock), 8);
  EXPECT_EQ(ByteAt(disk_->content(), 7 * kBlock), 0);

  ASSERT_TRUE(Await(disk_->Fdatasync()).ok());
  EXPECT_TRUE(CrashNow().durable() == disk_->content());
}

TEST_F(CrashPointTest, AnFsyncCoversOnlyWhatCompletedBeforeItStarted) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Open({.seed = seed});
    ASSERT_TRUE(Await(Write(0, 1)).ok());
    Scope scope(loop_);
    scope.Spawn(ringcow::Await(Write(1, 2)));
    scope.Spawn(ringcow::Await(disk_->Fdatasync()));
    ASSERT_TRUE(loop_.Run(scope.Join()).ok());
    const CrashPoint point = CrashNow();
    EXPECT_EQ(ByteAt(point.durable(), 0), 1);
    ASSERT_EQ(point.pending().size(), 1U) << disk_->trace().ToString();
    EXPECT_EQ(point.pending()[0].request().offset.value(), kBlock);
  }
}

TEST_F(CrashPointTest, ADurableWriteIsDurableAloneAndHidesWhatIsBelow) {
  ASSERT_TRUE(Await(disk_->Write(HostOffset(0), Block(1, 3 * kBlock))).ok());
  ASSERT_TRUE(Await(Write(12, 2)).ok());
  ASSERT_TRUE(Await(disk_->WriteDurably(HostOffset(kBlock), Block(3), Content::kL2)).ok());
  const CrashPoint point = CrashNow();
  EXPECT_EQ(ByteAt(point.durable(), 0), 8);
  EXPECT_EQ(ByteAt(point.durable(), kBlock), 3);
  EXPECT_EQ(point.durable().size(), kInitialBlocks * kBlock) << "others' growth is not durable";
  ASSERT_EQ(point.pending().size(), 2U);
  DiskImage image = point.durable();
  point.pending()[0].ApplyTo(image);
  EXPECT_EQ(ByteAt(image, 0), 1);
  EXPECT_EQ(ByteAt(image, kBlock), 3) << "an older write cannot come back on top";
  EXPECT_EQ(ByteAt(image, 2 * kBlock), 1);
}

TEST_F(CrashPointTest, AFailedFsyncLeavesInDoubtForGood) {
  ASSERT_TRUE(Await(Write(0, 1)).ok());
  FailNext(Fault::Error(EIO));
  EXPECT_EQ(ErrnoOf(Await(disk_->Fdatasync())), EIO);
  ASSERT_TRUE(Await(Write(1, 2)).ok());
  ASSERT_TRUE(Await(disk_->Fdatasync()).ok());
  CrashPoint point = CrashNow();
  EXPECT_EQ(ByteAt(point.durable(), 0), 8);
  EXPECT_EQ(ByteAt(point.durable(), kBlock), 2);
  ASSERT_EQ(point.pending().size(), 1U);
  EXPECT_TRUE(point.pending()[0].doubtful());

  ASSERT_TRUE(Await(Write(0, 3)).ok());
  ASSERT_TRUE(Await(disk_->Fdatasync()).ok());
  point = CrashNow();
  EXPECT_EQ(ByteAt(point.durable(), 0), 3) << "written again, it is safe";
  EXPECT_EQ(point.pending().size(), 0U);
}

TEST_F(CrashPointTest, AFailedDurableWriteMayBeAFailedFsyncUnlessThereWasNoRoom) {
  for (const int error : {EIO, ENOSPC}) {
    Open({});
    ASSERT_TRUE(Await(Write(0, 1)).ok());
    FailNext(Fault::Error(error));
    EXPECT_EQ(ErrnoOf(Await(disk_->WriteDurably(HostOffset(kBlock), Block(2), Content::kL2))),
              error);
    ASSERT_TRUE(Await(disk_->Fdatasync()).ok());
    EXPECT_EQ(CrashNow().pending().size(), error == EIO ? 1U : 0U);
  }
}

TEST_F(CrashPointTest, ACancelledFsyncWasNeverTried) {
  ASSERT_TRUE(Await(Write(1, 1)).ok());
  FailNext(Fault::Error(ECANCELED));
  ASSERT_FALSE(Await(disk_->Fdatasync()).ok());
  ASSERT_EQ(CrashNow().pending().size(), 1U);
  EXPECT_FALSE(CrashNow().pending()[0].doubtful());
  ASSERT_TRUE(Await(disk_->Fdatasync()).ok());
  EXPECT_TRUE(CrashNow().pending().empty());
}

TEST_F(CrashPointTest, AFailedWriteLeavesWhatWasApplied) {
  FailNext(Fault::Error(EIO));
  EXPECT_FALSE(Await(Write(0, 1)).ok());
  EXPECT_EQ(CrashNow().pending().size(), 0U);

  FailNext(Fault::Error(EIO, 1024));
  EXPECT_FALSE(Await(Write(9, 1)).ok());
  const CrashPoint point = CrashNow();
  ASSERT_EQ(point.pending().size(), 1U);
  EXPECT_EQ(point.pending()[0].sectors(), 2U);
  EXPECT_EQ(WithAll(point).size(), 9 * kBlock + 1024);
  EXPECT_TRUE(WithAll(point) == disk_->content());
}

TEST_F(CrashPointTest, AChainsLaterMemberIsPendingOnlyAfterTheEarlier) {
  disk_->SetFaults([](const Request&, uint64_t i) { return i == 3 ? Fault::Error(EIO) : Fault(); });
  Chain chain = disk_->NewChain();
  chain.Write(HostOffset(0), Block(1), Content::kRefcountBlock).Fdatasync();
  chain.Write(HostOffset(kBlock), Block(2), Content::kL2).Fdatasync();
  chain.Write(HostOffset(2 * kBlock), Block(3), Content::kL1);
  EXPECT_EQ(ErrnoOf(Perform(*disk_, chain)), EIO);
  CrashPoint point(disk_->trace(), disk_->initial());
  size_t states_with_l2 = 0;
  do {
    for (const PendingChange& change : point.pending()) {
      EXPECT_NE(change.request().content, Content::kL1);
      if (change.request().content != Content::kL2) continue;
      ++states_with_l2;
      EXPECT_EQ(ByteAt(point.durable(), 0), 1);
    }
  } while (point.Advance());
  EXPECT_GT(states_with_l2, 0U);
}

TEST_F(CrashPointTest, AWriteUnderWayCanBeTorn) {
  ASSERT_TRUE(Await(Write(kInitialBlocks, 1)).ok());
  CrashPoint point(disk_->trace(), disk_->initial());
  point.AdvanceTo(1);
  ASSERT_EQ(point.pending().size(), 1U);
  const PendingChange& write = point.pending()[0];
  EXPECT_FALSE(write.applied());
  EXPECT_EQ(write.sectors(), 8U);
  DiskImage image = point.durable();
  write.ApplyTornTo(image, [](uint64_t sector) { return sector % 2 == 1; });
  for (uint64_t sector = 0; sector < 8; ++sector) {
    const uint64_t offset = kInitialBlocks * kBlock + sector * PendingChange::kSectorBytes;
    EXPECT_EQ(ByteAt(image, offset), sector % 2);
    EXPECT_EQ(ByteAt(image, offset + PendingChange::kSectorBytes - 1), sector % 2);
  }
  EXPECT_EQ(image.size(), (kInitialBlocks + 1) * kBlock);
}

// Runs random, overlapping, failing requests of every kind, a few at a time.
void RunRandomly(SimDisk& disk, Loop& loop, std::mt19937_64& random,
                 std::deque<AlignedBuffer>& memory) {
  disk.SetFaults([&random](const Request&, uint64_t) {
    const uint64_t choice = random() % 20;
    if (choice == 0) return Fault::Error(EIO);
    if (choice == 1) return Fault::Error(EIO, random() % 8 * 512);
    return Fault();
  });
  for (int round = 0; round < 25; ++round) {
    Scope scope(loop);
    for (uint64_t i = random() % 6; i-- > 0;) {
      const HostOffset offset(random() % 96 * 512);
      const uint64_t length = (1 + random() % 16) * 512;
      AlignedBuffer& bytes = memory.emplace_back(length);
      std::ranges::copy(RandomBytes(random, length), bytes.data());
      switch (random() % 9) {
        case 0:
          scope.Spawn(Await(disk.WriteDurably(offset, bytes.span(), Content::kL2)));
          break;
        case 1:
          scope.Spawn(Await(disk.WriteZeroes(offset, length)));
          break;
        case 2:
          scope.Spawn(Await(disk.Punch(offset, length)));
          break;
        case 3:
          scope.Spawn(Await(disk.Truncate(offset.value())));
          break;
        case 4:
          scope.Spawn(Await(disk.Allocate(offset, length)));
          break;
        case 5:
          scope.Spawn(Await(disk.Fdatasync()));
          break;
        default:
          scope.Spawn(Await(disk.Write(offset, bytes.span())));
          break;
      }
    }
    (void)loop.Run(scope.Join());  // some of them are made to fail
  }
}

// What a crash leaves, from first principles: everything that took effect, in that order, without
// the changes that are lost.
DiskImage Replay(const SimDisk& disk, size_t position, const std::set<uint64_t>& lost) {
  DiskImage image = disk.initial();
  for (size_t i = 0; i < position; ++i) {
    const TraceEvent& event = disk.trace().events()[i];
    if (event.kind != TraceEvent::Kind::kApplied || event.request->op == Op::kFdatasync) continue;
    const TracedRequest& request = *event.request;
    if (lost.contains(request.ordinal)) continue;
    const uint64_t begin = request.offset.value();
    switch (request.op) {
      case Op::kWrite:
        image.Write(begin, std::span(request.bytes).first(static_cast<size_t>(event.result)));
        break;
      case Op::kTruncate:
        image.Resize(begin);
        break;
      default:
        if (request.op != Op::kPunch) image.Resize(std::max(image.size(), request.end().value()));
        if (request.op != Op::kAllocate) image.Zero(begin, request.length);
        break;
    }
  }
  return image;
}

// Any choice of surviving changes gives what a replay without the lost ones gives: what is pending
// never comes back on top of something newer that is durable.
TEST_F(CrashPointTest, EveryStateIsAReplayWithoutWhatWasLost) {
  size_t lost_something = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    Open({.seed = seed});
    std::mt19937_64 random(seed);
    std::deque<AlignedBuffer> memory;
    RunRandomly(*disk_, loop_, random, memory);

    CrashPoint point(disk_->trace(), disk_->initial());
    do {
      DiskImage state = point.durable();
      std::set<uint64_t> lost;
      for (const PendingChange& change : point.pending()) {
        if (!change.applied()) continue;
        if (random() % 2 == 0) {
          change.ApplyTo(state);
        } else {
          lost.insert(change.request().ordinal);
        }
      }
      lost_something += lost.empty() ? 0 : 1;
      ASSERT_TRUE(state == Replay(*disk_, point.position(), lost))
          << "at " << point.position() << " of\n"
          << disk_->trace().ToString();
    } while (point.Advance());
    EXPECT_TRUE(Replay(*disk_, disk_->trace().size(), {}) == disk_->content());
  }
  EXPECT_GT(lost_something, 1000U);
}

}  // namespace
}  // namespace ringcow
