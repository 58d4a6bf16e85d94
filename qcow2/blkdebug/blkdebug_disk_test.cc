#include "qcow2/blkdebug/blkdebug_disk.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/errno_status.h"
#include "engine/scope.h"
#include "engine/status_macros.h"
#include "engine/testing/await.h"
#include "engine/testing/sim_disk.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kBlock = 4096;

class BlkdebugDiskTest : public testing::Test {
 protected:
  void Open(BlkdebugOptions options) { disk_ = BlkdebugDisk::Open(below_, options).value(); }
  void Inject(InjectError rule) { Open({.rules = {.inject_errors = {rule}}}); }

  int Write(uint64_t offset, uint64_t length = kBlock, Content content = Content::kData) {
    const std::vector<std::byte> bytes(length, std::byte{1});
    return ErrnoOf(Perform(*disk_, disk_->Write(HostOffset(offset), bytes, content)));
  }
  int Read(uint64_t offset, uint64_t length = kBlock, Content content = Content::kData) {
    std::vector<std::byte> bytes(length);
    return ErrnoOf(Perform(*disk_, disk_->Read(HostOffset(offset), bytes, content)));
  }
  int Flush() { return ErrnoOf(Perform(*disk_, disk_->Fdatasync())); }

  // What the disk below was asked for, as offsets and lengths in blocks.
  using Below = std::vector<std::pair<uint64_t, uint64_t>>;
  Below Watch(Op op, const std::function<void()>& act) {
    Below seen;
    below_.SetFaults([&](const Request& request, uint64_t /*ordinal*/) {
      if (request.op == op) seen.emplace_back(request.offset.value(), request.length);
      return Fault();
    });
    act();
    below_.SetFaults(nullptr);
    return seen;
  }

  Loop loop_;
  SimDisk below_{loop_, {.alignment = 1, .memory_alignment = 1}};
  std::unique_ptr<BlkdebugDisk> disk_;
};

TEST_F(BlkdebugDiskTest, TellsEventsByWhatIsReadAndWritten) {
  const struct {
    DebugEvent event;
    std::function<int()> request;
  } cases[] = {
      {DebugEvent::kReadAio, [&] { return Read(0); }},
      {DebugEvent::kL2Load, [&] { return Read(0, kBlock, Content::kL2); }},
      {DebugEvent::kReftableLoad, [&] { return Read(0, kBlock, Content::kRefcountTable); }},
      {DebugEvent::kWriteAio, [&] { return Write(0); }},
      {DebugEvent::kL1Update, [&] { return Write(0, kBlock, Content::kL1); }},
      {DebugEvent::kL2Update, [&] { return Write(0, kBlock, Content::kL2); }},
      {DebugEvent::kReftableUpdate, [&] { return Write(0, kBlock, Content::kRefcountTable); }},
      {DebugEvent::kRefblockUpdatePart, [&] { return Write(0, kBlock, Content::kRefcountBlock); }},
      {DebugEvent::kFlushToDisk, [&] { return Flush(); }},
      {DebugEvent::kPwritevZero,
       [&] { return ErrnoOf(Perform(*disk_, disk_->WriteZeroes(HostOffset(0), kBlock))); }},
  };
  for (const auto& fails : cases) {
    for (const auto& each : cases) {
      Inject({.event = fails.event, .once = true});
      EXPECT_EQ(each.request(), each.event == fails.event ? EIO : 0)
          << static_cast<int>(fails.event) << " " << static_cast<int>(each.event);
    }
  }
}

TEST_F(BlkdebugDiskTest, WhatFailsIsNotDone) {
  Inject({.event = DebugEvent::kPwritev, .error = ENOSPC, .once = true});
  EXPECT_EQ(Write(0), ENOSPC);
  EXPECT_EQ(below_.requests(), 0U);
  EXPECT_EQ(disk_->size(), 0U);
  EXPECT_EQ(Write(0), 0);
  EXPECT_EQ(disk_->size(), kBlock);
}

TEST_F(BlkdebugDiskTest, AWriteIsDoneAfterItsEnd) {
  Open({.rules = {.inject_errors = {{.event = DebugEvent::kReadAio, .state = 2}},
                  .set_states = {{.event = DebugEvent::kPwritevDone, .new_state = 2}}}});
  EXPECT_EQ(Read(0), 0);
  EXPECT_EQ(Write(0), 0);
  EXPECT_EQ(Read(0), EIO);
}

TEST_F(BlkdebugDiskTest, AnnouncedEventsInjectErrors) {
  Inject({.event = DebugEvent::kClusterFree});
  EXPECT_EQ(Read(0), 0);
  disk_->Happened(DebugEvent::kClusterFree);
  EXPECT_EQ(Read(0), EIO);
}

TEST_F(BlkdebugDiskTest, ImmediatelyIsInTheSameTurn) {
  for (const bool immediately : {false, true}) {
    Inject({.event = DebugEvent::kNone, .immediately = immediately});
    std::vector<std::byte> bytes(kBlock);
    absl::Status outcome;
    const auto both = [&]() -> Task<bool> {
      Scope scope(loop_);
      scope.Spawn(AwaitInto(outcome, disk_->Read(HostOffset(0), bytes)));
      co_await loop_.Yield();
      const bool is_over = scope.running() == 0;
      EXPECT_EQ(co_await scope.Join(), absl::OkStatus());
      co_return is_over;
    };
    EXPECT_EQ(loop_.Run(both()), immediately);
    EXPECT_EQ(ErrnoOf(outcome), EIO);
  }
}

TEST_F(BlkdebugDiskTest, AChainEndsWithItsFirstFailure) {
  Inject({.event = DebugEvent::kL2Update, .error = ENOSPC, .once = true});
  const std::vector<std::byte> bytes(kBlock, std::byte{1});
  Chain chain = disk_->NewChain();
  chain.Write(HostOffset(0), bytes, Content::kRefcountBlock)
      .Fdatasync()
      .Write(HostOffset(kBlock), bytes, Content::kL2)
      .Write(HostOffset(2 * kBlock), bytes, Content::kL2);
  EXPECT_EQ(ErrnoOf(Perform(*disk_, chain)), ENOSPC);
  EXPECT_THAT(std::vector<int>({chain.error(0), chain.error(1), chain.error(2), chain.error(3)}),
              ElementsAre(0, 0, ENOSPC, ECANCELED));
  EXPECT_EQ(below_.content().size(), kBlock);
}

TEST_F(BlkdebugDiskTest, DrainedChainsFollowOneAnother) {
  Open({});
  const std::vector<std::byte> bytes(kBlock, std::byte{1});
  Chain first = disk_->NewChain();
  first.Write(HostOffset(0), bytes, Content::kL2).Write(HostOffset(kBlock), bytes, Content::kL2);
  Chain second = disk_->NewChain();
  second.Write(HostOffset(2 * kBlock), bytes, Content::kL2);
  const Below seen = Watch(Op::kWrite, [&] {
    Scope scope(loop_);
    scope.Spawn(Await(first));
    scope.Spawn(Await(second));
    EXPECT_EQ(loop_.Run(scope.Join()), absl::OkStatus());
  });
  EXPECT_THAT(seen, ElementsAre(std::pair(0, kBlock), std::pair(kBlock, kBlock),
                                std::pair(2 * kBlock, kBlock)));
}

TEST_F(BlkdebugDiskTest, CutsTransfersIntoPieces) {
  Open({.limits = {.max_transfer = kBlock}});
  std::vector<std::byte> bytes(3 * kBlock - 100);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i % 251);
  const iovec vectors[] = {{bytes.data(), 5000}, {bytes.data() + 5000, bytes.size() - 5000}};
  const Below writes = Watch(Op::kWrite, [&] {
    EXPECT_EQ(Perform(*disk_, disk_->WriteV(HostOffset(10), vectors)), absl::OkStatus());
  });
  EXPECT_THAT(writes, ElementsAre(std::pair(10, kBlock), std::pair(10 + kBlock, kBlock),
                                  std::pair(10 + 2 * kBlock, kBlock - 100)));
  std::vector<std::byte> back(bytes.size());
  const Below reads = Watch(Op::kRead, [&] {
    EXPECT_EQ(Perform(*disk_, disk_->Read(HostOffset(10), back)), absl::OkStatus());
  });
  EXPECT_EQ(reads.size(), 3U);
  EXPECT_EQ(back, bytes);
}

TEST_F(BlkdebugDiskTest, APieceFailsByItsPlace) {
  Open({.rules = {.inject_errors = {{.event = DebugEvent::kNone, .offset = kBlock}}},
        .limits = {.max_transfer = kBlock}});
  EXPECT_EQ(Write(0, 2 * kBlock), EIO);
  EXPECT_EQ(below_.content().size(), kBlock);
}

// What others have made longer meanwhile is not what this one has written.
TEST_F(BlkdebugDiskTest, AWriteFailsWhileTheDiskGrows) {
  Open({.rules = {.inject_errors = {{.event = DebugEvent::kNone, .offset = 0}}}});
  const std::vector<std::byte> bytes(8 * kBlock, std::byte{1});
  std::vector<absl::Status> outcomes(2);
  Scope scope(loop_);
  scope.Spawn(AwaitInto(outcomes[1], disk_->Write(HostOffset(kBlock), bytes)));
  for (int turn = 0; turn < 20; ++turn) {
    scope.Spawn(AwaitInto(outcomes[0], disk_->Write(HostOffset(0), bytes)));
    const auto yield = [&]() -> Task<absl::Status> {
      co_await loop_.Yield();
      co_await loop_.Yield();
      co_return outcomes[0];
    };
    EXPECT_EQ(ErrnoOf(loop_.Run(yield())), EIO) << turn;
  }
  EXPECT_EQ(loop_.Run(scope.Join()), absl::OkStatus());
  EXPECT_EQ(outcomes[1], absl::OkStatus());
  EXPECT_EQ(disk_->size(), 9 * kBlock);
}

TEST_F(BlkdebugDiskTest, WritesZeroesAroundWholeUnits) {
  Open({.limits = {.opt_write_zero = kBlock, .max_write_zero = 2 * kBlock}});
  ASSERT_EQ(Write(0, 6 * kBlock), 0);
  const auto zero = [&] {
    EXPECT_EQ(Perform(*disk_, disk_->WriteZeroes(HostOffset(100), 5 * kBlock)), absl::OkStatus());
  };
  EXPECT_THAT(Watch(Op::kWriteZeroes, zero),
              ElementsAre(std::pair(kBlock, 2 * kBlock), std::pair(3 * kBlock, 2 * kBlock)));
  EXPECT_THAT(Watch(Op::kWrite, zero),
              ElementsAre(std::pair(100, kBlock - 100), std::pair(5 * kBlock, 100)));
}

TEST_F(BlkdebugDiskTest, WhatIsPunchedReadsAsZeroes) {
  Open({.limits = {.opt_discard = kBlock}});
  ASSERT_EQ(Write(0, 2 * kBlock), 0);
  ASSERT_EQ(Perform(*disk_, disk_->Punch(HostOffset(100), kBlock)), absl::OkStatus());
  std::vector<std::byte> back(kBlock, std::byte{1});
  ASSERT_EQ(Perform(*disk_, disk_->Read(HostOffset(100), back)), absl::OkStatus());
  EXPECT_TRUE(std::all_of(back.begin(), back.end(), [](std::byte b) { return b == std::byte{0}; }));
}

TEST_F(BlkdebugDiskTest, AlignsRequests) {
  Open({.limits = {.align = kBlock}});
  const Below writes = Watch(Op::kWrite, [&] { EXPECT_EQ(Write(100, 10), 0); });
  EXPECT_THAT(writes, ElementsAre(std::pair(0, kBlock)));
}

class BreakpointsTest : public BlkdebugDiskTest {
 protected:
  BreakpointsTest() { Open({}); }

  bool Break(DebugEvent event, const std::string& tag) {
    return disk_->breakpoints().Set(
        event, tag, [this](absl::string_view at) { said_.push_back("stop " + std::string(at)); },
        [this](absl::string_view at) { said_.push_back("go " + std::string(at)); });
  }
  Task<absl::Status> ReadInBackground(std::string name) {
    std::vector<std::byte> bytes(kBlock);
    absl::Status status = co_await disk_->Read(HostOffset(0), bytes);
    said_.push_back("end " + name);
    co_return status;
  }

  std::vector<std::string> said_;
};

TEST_F(BreakpointsTest, StopsOneRequestUntilItIsResumed) {
  ASSERT_TRUE(Break(DebugEvent::kReadAio, "A"));
  const auto act = [&]() -> Task<absl::Status> {
    Breakpoints& breakpoints = disk_->breakpoints();
    Scope scope(loop_);
    scope.Spawn(ReadInBackground("first"));
    EXPECT_TRUE(co_await breakpoints.WaitFor("A"));
    CO_RETURN_IF_ERROR(co_await ReadInBackground("second"));
    EXPECT_TRUE(breakpoints.Resume("A"));
    EXPECT_FALSE(breakpoints.Resume("A"));
    co_return co_await scope.Join();
  };
  EXPECT_EQ(loop_.Run(act()), absl::OkStatus());
  EXPECT_THAT(said_, ElementsAre("stop A", "end second", "go A", "end first"));
}

TEST_F(BreakpointsTest, StopsAtAllThatAreThereWhenItComes) {
  ASSERT_TRUE(Break(DebugEvent::kReadAio, "A"));
  ASSERT_TRUE(Break(DebugEvent::kReadAio, "B"));
  const auto act = [&]() -> Task<absl::Status> {
    Breakpoints& breakpoints = disk_->breakpoints();
    Scope scope(loop_);
    scope.Spawn(ReadInBackground("first"));
    EXPECT_TRUE(co_await breakpoints.WaitFor("A"));
    EXPECT_TRUE(Break(DebugEvent::kReadAio, "C"));
    EXPECT_TRUE(breakpoints.Resume("A"));
    EXPECT_TRUE(breakpoints.Resume("B"));
    CO_RETURN_IF_ERROR(co_await scope.Join());
    scope.Spawn(ReadInBackground("second"));
    EXPECT_TRUE(co_await breakpoints.WaitFor("C"));
    EXPECT_TRUE(breakpoints.Resume("C"));
    co_return co_await scope.Join();
  };
  EXPECT_EQ(loop_.Run(act()), absl::OkStatus());
  EXPECT_THAT(said_, ElementsAre("stop B", "stop A", "go A", "go B", "end first", "stop C", "go C",
                                 "end second"));
}

TEST_F(BreakpointsTest, GoesOnWhenItIsRemoved) {
  ASSERT_TRUE(Break(DebugEvent::kReadAio, "A"));
  ASSERT_TRUE(Break(DebugEvent::kWriteAio, "A"));
  const auto act = [&]() -> Task<absl::Status> {
    Scope scope(loop_);
    scope.Spawn(ReadInBackground("read"));
    EXPECT_TRUE(co_await disk_->breakpoints().WaitFor("A"));
    EXPECT_TRUE(disk_->breakpoints().Remove("A"));
    EXPECT_FALSE(disk_->breakpoints().Remove("A"));
    co_return co_await scope.Join();
  };
  EXPECT_EQ(loop_.Run(act()), absl::OkStatus());
  EXPECT_EQ(Write(0), 0);
  EXPECT_THAT(said_, ElementsAre("stop A", "go A", "end read"));
}

// Else the loop would wait for somebody who waits for the loop.
TEST_F(BreakpointsTest, NobodyIsWaitedForInVain) {
  ASSERT_TRUE(Break(DebugEvent::kReadAio, "A"));
  EXPECT_EQ(loop_.Run(ReadInBackground("read")), absl::OkStatus());
  EXPECT_THAT(said_, ElementsAre("stop A", "go A", "end read"));

  ASSERT_TRUE(Break(DebugEvent::kWriteAio, "B"));
  EXPECT_FALSE(loop_.Run(disk_->breakpoints().WaitFor("B")));
}

TEST_F(BreakpointsTest, NoRequestStopsAtWhatHappensInMemory) {
  EXPECT_FALSE(Break(DebugEvent::kClusterAlloc, "A"));
  EXPECT_FALSE(Break(DebugEvent::kNone, "A"));
}

}  // namespace
}  // namespace ringcow
