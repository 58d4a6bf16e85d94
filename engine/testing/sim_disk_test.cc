#include "engine/testing/sim_disk.h"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/scope.h"
#include "engine/testing/await.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr size_t kBlock = 4096;

class SimDiskTest : public testing::Test {
 protected:
  SimDiskTest() { Open({}); }

  void Open(const SimDisk::Options& options, DiskImage content = DiskImage()) {
    disk_.reset();
    disk_ = std::make_unique<SimDisk>(loop_, options, std::move(content));
  }

  // A block of `value`s that lives as long as the test.
  std::span<const std::byte> Block(int value) {
    blocks_.emplace_back(kBlock);
    std::fill_n(blocks_.back().data(), kBlock, static_cast<std::byte>(value));
    return blocks_.back().span();
  }
  int ByteAt(uint64_t offset) {
    std::byte byte{};
    disk_->content().Read(offset, {&byte, 1});
    return static_cast<int>(byte);
  }
  // The n-th request from here on, counted from 0, meets `fault`.
  void FailNth(uint64_t n, Fault fault) {
    const uint64_t ordinal = disk_->requests() + n;
    disk_->SetFaults([=](const Request&, uint64_t i) { return i == ordinal ? fault : Fault(); });
  }
  Chain WritesAndSyncs(const std::vector<int>& values) {
    Chain chain = disk_->NewChain();
    for (int value : values) {
      chain.Write(HostOffset(value * kBlock), Block(value), Content::kL2).Fdatasync();
    }
    return chain;
  }

  Loop loop_;
  std::vector<AlignedBuffer> blocks_;
  std::unique_ptr<SimDisk> disk_;
};

// Requests of all kinds, some failing, on both lanes at once; returns what happened as text.
std::string RunMixture(uint64_t seed) {
  Loop loop;
  SimDisk disk(loop, {.seed = seed});
  disk.SetFaults(
      [](const Request&, uint64_t i) { return i % 13 == 7 ? Fault::Error(EIO) : Fault(); });
  std::mt19937_64 random(5);
  const AlignedBuffer bytes(kBlock);
  std::fill_n(bytes.data(), kBlock, std::byte{1});
  Scope scope(loop);
  std::deque<Chain> chains;
  for (int i = 0; i < 60; ++i) {
    const HostOffset offset(random() % 100 * kBlock);
    const Lane lane = random() % 2 == 0 ? Lane::kData : Lane::kMetadata;
    switch (random() % 4) {
      case 0:
        scope.Spawn(Await(disk.Write(offset, bytes.span(), Content::kL2)));
        break;
      case 1:
        scope.Spawn(Await(disk.Fdatasync()));
        break;
      case 2:
        scope.Spawn(Await(disk.Punch(offset, kBlock)));
        break;
      default:
        chains.push_back(disk.NewChain());
        chains.back().OnLane(lane).Write(offset, bytes.span(), Content::kL1).Fdatasync();
        if (random() % 2 == 0) chains.back().WithoutDrain();
        scope.Spawn(Await(chains.back()));
        break;
    }
  }
  EXPECT_EQ(loop.Run(scope.Join()).code(), absl::ErrnoToStatus(EIO, "").code());
  return disk.trace().ToString();
}

TEST_F(SimDiskTest, TheSeedDecidesEverything) {
  const std::string once = RunMixture(1);
  EXPECT_EQ(once, RunMixture(1));
  EXPECT_NE(once, RunMixture(2));
  EXPECT_NE(once.find("Input/output error"), std::string::npos) << once;
}

TEST_F(SimDiskTest, ErrorWithoutWithPartialAndWithFullEffect) {
  const struct {
    uint64_t applied;
    int first_byte, last_byte;
  } kCases[] = {{0, 0, 0}, {kBlock / 2, 7, 0}, {Fault::kAll, 7, 7}};
  for (const auto& expected : kCases) {
    Open({}, [] {
      DiskImage zeroes;
      zeroes.Resize(16 * kBlock);
      return zeroes;
    }());
    FailNth(0, Fault::Error(ENOSPC, expected.applied));
    const absl::Status status = Perform(*disk_, disk_->Write(HostOffset(kBlock), Block(7)));
    EXPECT_EQ(ErrnoOf(status), ENOSPC) << status;
    EXPECT_EQ(ByteAt(kBlock), expected.first_byte);
    EXPECT_EQ(ByteAt(2 * kBlock - 1), expected.last_byte);
    EXPECT_TRUE(Perform(*disk_, disk_->Write(HostOffset(kBlock), Block(8))).ok()) << "once only";
  }
}

TEST_F(SimDiskTest, ShortWritesAreContinuedAndShortReadsToo) {
  FailNth(0, Fault::Short(512));
  ASSERT_TRUE(Perform(*disk_, disk_->Write(HostOffset(0), Block(7))).ok());
  EXPECT_EQ(disk_->requests(), 2U);
  EXPECT_EQ(ByteAt(kBlock - 1), 7);

  AlignedBuffer into(kBlock);
  FailNth(0, Fault::Short(1024));
  ASSERT_TRUE(Perform(*disk_, disk_->Read(HostOffset(0), into.span())).ok());
  EXPECT_EQ(into.data()[kBlock - 1], std::byte{7});

  FailNth(0, Fault::Short(0));
  EXPECT_EQ(ErrnoOf(Perform(*disk_, disk_->Write(HostOffset(0), Block(8)))), EIO);
}

TEST_F(SimDiskTest, AChainEndsAtItsFirstFailure) {
  const struct {
    Fault fault;
    int error = 0;
  } kCases[] = {{Fault::Error(EIO), EIO},
                {Fault::Error(EIO, Fault::kAll), EIO},
                {Fault::Short(512), EIO},
                {Fault::Error(ECANCELED), ECANCELED}};
  for (const auto& [fault, error] : kCases) {
    for (size_t failing = 0; failing < 6; ++failing) {
      if (fault.error == 0 && failing % 2 == 1) continue;  // an fsync is not short
      Open({.seed = failing});
      FailNth(failing, fault);
      Chain chain = WritesAndSyncs({1, 2, 3});
      EXPECT_EQ(ErrnoOf(Perform(*disk_, chain)), error);
      for (size_t i = 0; i < chain.size(); ++i) {
        EXPECT_EQ(chain.error(i), i < failing ? 0 : (i == failing ? error : ECANCELED));
        if (i > failing && i % 2 == 0) {
          EXPECT_EQ(ByteAt((i / 2 + 1) * kBlock), 0) << "written behind a failure";
        }
      }
      // It does not linger: the lane goes on.
      Chain next = disk_->NewChain();
      EXPECT_TRUE(Perform(*disk_, next.Fdatasync()).ok());
    }
  }
}

TEST_F(SimDiskTest, OperationsCanBeMissing) {
  disk_->SetUnsupported({Op::kPunch, Op::kWriteZeroes, Op::kAllocate});
  EXPECT_EQ(ErrnoOf(Perform(*disk_, disk_->Punch(HostOffset(0), kBlock))), EOPNOTSUPP);
  EXPECT_EQ(ErrnoOf(Perform(*disk_, disk_->WriteZeroes(HostOffset(0), kBlock))), EOPNOTSUPP);
  const absl::Status status = Perform(*disk_, disk_->Allocate(HostOffset(0), kBlock));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
  EXPECT_EQ(disk_->size(), 0U);
  EXPECT_TRUE(Perform(*disk_, disk_->Write(HostOffset(0), Block(1))).ok());
}

TEST_F(SimDiskTest, AFullDiskTakesWhatFitsAndNoMore) {
  disk_->SetSizeLimit(kBlock + 512, ENOSPC);
  EXPECT_EQ(ErrnoOf(Perform(*disk_, disk_->Write(HostOffset(kBlock), Block(1)))), ENOSPC);
  EXPECT_EQ(disk_->content().size(), kBlock + 512);
  EXPECT_EQ(ByteAt(kBlock + 511), 1);
  EXPECT_EQ(ErrnoOf(Perform(*disk_, disk_->Allocate(HostOffset(0), 2 * kBlock))), ENOSPC);
  EXPECT_EQ(ErrnoOf(Perform(*disk_, disk_->WriteZeroes(HostOffset(kBlock), kBlock))), ENOSPC);
  EXPECT_EQ(ErrnoOf(Perform(*disk_, disk_->Truncate(2 * kBlock))), ENOSPC);
  EXPECT_TRUE(Perform(*disk_, disk_->Punch(HostOffset(kBlock), kBlock)).ok());
  EXPECT_TRUE(Perform(*disk_, disk_->Write(HostOffset(0), Block(2))).ok());
}

TEST_F(SimDiskTest, ConcurrentRequestsOverlapAndCompleteInAnyOrder) {
  Scope scope(loop_);
  for (int i = 0; i < 16; ++i) {
    scope.Spawn(Await(disk_->Write(HostOffset(i * kBlock), Block(i + 1))));
  }
  ASSERT_TRUE(loop_.Run(scope.Join()).ok());
  std::vector<uint64_t> completed;
  size_t under_way = 0;
  size_t most_under_way = 0;
  for (const TraceEvent& event : disk_->trace().events()) {
    if (event.kind == TraceEvent::Kind::kStarted) ++under_way;
    if (event.kind == TraceEvent::Kind::kCompleted) {
      --under_way;
      completed.push_back(event.request->ordinal);
    }
    most_under_way = std::max(most_under_way, under_way);
  }
  EXPECT_EQ(most_under_way, 16U);
  EXPECT_EQ(completed.size(), 16U);
  EXPECT_FALSE(std::is_sorted(completed.begin(), completed.end()));
}

// Looks up in a trace when a request, by ordinal, started and completed.
struct Times {
  explicit Times(const DiskTrace& trace) {
    for (size_t i = 0; i < trace.size(); ++i) {
      const TraceEvent& event = trace.events()[i];
      if (event.kind == TraceEvent::Kind::kStarted) started[event.request->ordinal] = i;
      if (event.kind == TraceEvent::Kind::kCompleted) completed[event.request->ordinal] = i;
    }
  }
  std::map<uint64_t, size_t> started, completed;
};

TEST_F(SimDiskTest, LinksAndDrainsOrderTheirLaneAndNoOther) {
  bool lanes_overlapped = false;
  bool undrained_overlapped = false;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Open({.seed = seed});
    Chain drained = WritesAndSyncs({4, 5});
    Chain undrained = WritesAndSyncs({6, 7});
    undrained.WithoutDrain();
    Scope scope(loop_);
    std::deque<Chain> singles;
    const auto write = [&](Lane lane, int block) {
      Chain& single = singles.emplace_back(disk_->NewChain());
      single.Write(HostOffset(block * kBlock), Block(block), Content::kRefcountBlock);
      scope.Spawn(Await(single.WithoutDrain().OnLane(lane)));
    };
    write(Lane::kMetadata, 1);      // #0
    write(Lane::kMetadata, 2);      // #1
    write(Lane::kData, 3);          // #2
    scope.Spawn(Await(drained));    // #3 to #6
    write(Lane::kMetadata, 8);      // #7
    scope.Spawn(Await(undrained));  // #8 to #11
    write(Lane::kData, 9);          // #12
    ASSERT_TRUE(loop_.Run(scope.Join()).ok());

    Times at(disk_->trace());
    for (uint64_t earlier : {0, 1}) EXPECT_LT(at.completed[earlier], at.started[3]);
    for (uint64_t member : {3, 4, 5, 8, 9, 10}) {
      EXPECT_LT(at.completed[member], at.started[member + 1]);
    }
    for (uint64_t later : {7, 8}) EXPECT_LT(at.completed[6], at.started[later]);
    EXPECT_LT(at.started[2], at.started[3]);
    EXPECT_LT(at.started[12], at.started[3]) << "the data lane does not wait";
    lanes_overlapped |= at.started[3] < at.completed[12];
    undrained_overlapped |= at.started[8] < at.completed[7];
  }
  EXPECT_TRUE(lanes_overlapped);
  EXPECT_TRUE(undrained_overlapped);
}

TEST_F(SimDiskTest, AFlawedDiskIgnoresDrains) {
  bool overlapped = false;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Open({.seed = seed, .flaws = {.ignores_drains = true}});
    Chain first = WritesAndSyncs({1, 2});
    Chain second = WritesAndSyncs({3, 4});
    Scope scope(loop_);
    scope.Spawn(Await(first));   // #0 to #3
    scope.Spawn(Await(second));  // #4 to #7
    ASSERT_TRUE(loop_.Run(scope.Join()).ok());
    Times at(disk_->trace());
    EXPECT_LT(at.completed[0], at.started[1]) << "links are kept";
    overlapped |= at.started[4] < at.completed[3];
  }
  EXPECT_TRUE(overlapped);
}

TEST_F(SimDiskTest, AFlawedDiskUnlinksTheFirstStageBeforeADrain) {
  bool overlapped = false;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Open({.seed = seed, .flaws = {.unlinks_first_stage = true}});
    Chain chain = disk_->NewChain();
    for (const int block : {1, 2}) {
      chain.Write(HostOffset(block * kBlock), Block(block), Content::kRefcountBlock);
    }
    chain.Fdatasync().Write(HostOffset(3 * kBlock), Block(3), Content::kL2);
    ASSERT_TRUE(loop_.Run(Await(chain)).ok());
    Times at(disk_->trace());
    overlapped |= at.started[1] < at.completed[0];
    for (uint64_t write : {0, 1}) EXPECT_LT(at.completed[write], at.started[2]);
    EXPECT_LT(at.completed[2], at.started[3]);
  }
  EXPECT_TRUE(overlapped);
}

TEST_F(SimDiskTest, AFlawedDiskGoesOnBehindAnErrorAndHidesAShortWrite) {
  Open({.flaws = {.ignores_errors = true}});
  FailNth(0, Fault::Error(EIO));
  Chain chain = WritesAndSyncs({1, 2});
  EXPECT_FALSE(loop_.Run(Await(chain)).ok());
  EXPECT_EQ(ByteAt(1 * kBlock), 0);
  EXPECT_EQ(ByteAt(2 * kBlock), 2);

  Open({});
  FailNth(0, Fault::HiddenShort(512));
  EXPECT_TRUE(Perform(*disk_, disk_->Write(HostOffset(0), Block(7))).ok());
  EXPECT_EQ(ByteAt(511), 7);
  EXPECT_EQ(ByteAt(512), 0);
}

TEST_F(SimDiskTest, TerabytesAreSparse) {
  const uint64_t far = uint64_t{20} << 40;
  ASSERT_TRUE(Perform(*disk_, disk_->Write(HostOffset(far), Block(1))).ok());
  ASSERT_TRUE(Perform(*disk_, disk_->WriteZeroes(HostOffset(0), far)).ok());
  ASSERT_TRUE(Perform(*disk_, disk_->Allocate(HostOffset(0), 2 * far)).ok());
  EXPECT_EQ(disk_->size(), 2 * far);
  EXPECT_EQ(ByteAt(far), 1);
  EXPECT_EQ(disk_->content().blocks(), 1U);
}

Task<absl::Status> ScribbleWhileWriting(SimDisk& disk, Scope& scope, AlignedBuffer& memory) {
  scope.Spawn(Await(disk.Write(HostOffset(0), memory.span())));
  while (disk.trace().size() == 0) co_await disk.loop().Yield();
  memory.data()[0] ^= std::byte{1};
  co_return absl::OkStatus();
}

TEST_F(SimDiskTest, NoticesMemoryThatChangesWhileItIsWritten) {
  Open({.latency = 50});
  AlignedBuffer memory(kBlock);
  std::fill_n(memory.data(), kBlock, std::byte{1});
  Scope scope(loop_);
  ASSERT_TRUE(loop_.Run(ScribbleWhileWriting(*disk_, scope, memory)).ok());
  EXPECT_EQ(disk_->changed_under_way(), 0U);
  ASSERT_TRUE(loop_.Run(scope.Join()).ok());
  EXPECT_EQ(disk_->changed_under_way(), 1U);
  EXPECT_EQ(disk_->trace().events()[1].request->bytes[0], std::byte{0}) << "what the disk got";
}

}  // namespace
}  // namespace ringcow
