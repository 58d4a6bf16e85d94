#include "qcow2/quorum_disk.h"

#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/errno_status.h"
#include "engine/testing/await.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;

constexpr uint64_t kSize = uint64_t{3} << 20;

class QuorumDiskTest : public testing::Test {
 protected:
  QuorumDiskTest() {
    for (int i = 0; i < 3; ++i) {
      disks_.push_back(std::make_unique<SimDisk>(loop_, SimDisk::Options{.record = false}));
      EXPECT_EQ(Perform(*disks_[i], disks_[i]->Truncate(kSize)), absl::OkStatus());
    }
  }
  absl::StatusOr<std::unique_ptr<QuorumDisk>> Open(size_t threshold) {
    return QuorumDisk::Open({disks_[0].get(), disks_[1].get(), disks_[2].get()}, threshold);
  }
  // Bytes that lie across what is voted on at a time.
  static constexpr HostOffset kAt{(uint64_t{1} << 20) - 1000};
  void Put(size_t child, std::byte value) {
    const Bytes bytes(2000, value);
    ASSERT_EQ(Perform(*disks_[child], disks_[child]->Write(kAt, bytes)), absl::OkStatus());
  }
  Bytes Get(Disk& disk) {
    Bytes bytes(2000);
    EXPECT_EQ(Perform(disk, disk.Read(kAt, bytes)), absl::OkStatus());
    return bytes;
  }
  int ErrorOfRead(Disk& disk) {
    Bytes bytes(2000);
    return ErrnoOf(Perform(disk, disk.Read(kAt, bytes)));
  }
  static SimDisk::FaultHook Failing(Op op) {
    return [op](const Request& request, uint64_t) {
      return request.op == op ? Fault::Error(ENOMEM) : Fault::None();
    };
  }

  Loop loop_;
  std::vector<std::unique_ptr<SimDisk>> disks_;
};

TEST_F(QuorumDiskTest, ReadsWhatEnoughAgreeOn) {
  for (size_t child = 0; child < 3; ++child) Put(child, child == 0 ? std::byte{1} : std::byte{2});
  EXPECT_EQ(Get(**Open(1)), Bytes(2000, std::byte{1}));
  EXPECT_EQ(Get(**Open(2)), Bytes(2000, std::byte{2}));
  EXPECT_EQ(ErrorOfRead(**Open(3)), EIO);
  disks_[0]->SetFaults(Failing(Op::kRead));
  EXPECT_EQ(Get(**Open(1)), Bytes(2000, std::byte{2}));
  disks_[1]->SetFaults(Failing(Op::kRead));
  EXPECT_EQ(ErrorOfRead(**Open(2)), ENOMEM);
}

TEST_F(QuorumDiskTest, ChangesAllOrFails) {
  auto quorum = *Open(2);
  const Bytes bytes(4096, std::byte{7});
  EXPECT_EQ(Perform(*quorum, quorum->Write(HostOffset(kSize), bytes)), absl::OkStatus());
  EXPECT_EQ(Perform(*quorum, quorum->Fdatasync()), absl::OkStatus());
  for (const auto& disk : disks_) {
    Bytes found(4096);
    disk->content().Read(kSize, found);
    EXPECT_EQ(found, bytes);
    EXPECT_EQ(disk->counters().fsyncs, 1U);
  }
  EXPECT_EQ(quorum->size(), kSize + 4096);
  for (const Op op : {Op::kWrite, Op::kFdatasync}) {
    disks_[2]->SetFaults(Failing(op));
    EXPECT_EQ(ErrnoOf(Perform(*quorum, quorum->Write(HostOffset(0), bytes))),
              op == Op::kWrite ? ENOMEM : 0);
    EXPECT_EQ(ErrnoOf(Perform(*quorum, quorum->Fdatasync())), op == Op::kWrite ? 0 : ENOMEM);
  }
}

TEST_F(QuorumDiskTest, IsOfOneSize) {
  EXPECT_EQ(Perform(*disks_[1], disks_[1]->Truncate(kSize - 4096)), absl::OkStatus());
  EXPECT_EQ(Open(1).status().message(), "Could not refresh total sector count: Input/output error");
}

std::string ErrorOfOptions(std::map<std::string, std::string> options, size_t children) {
  ImageDescription description(std::move(options));
  return std::string(TakeVoteThreshold(description, children).status().message());
}

TEST(VoteThresholdTest, IsRefusedAsByQemu) {
  EXPECT_EQ(ErrorOfOptions({{"vote-threshold", "2"}}, 2), "");
  EXPECT_EQ(ErrorOfOptions({{"vote-threshold", "1"}}, 0),
            "Number of provided children must be 1 or more");
  EXPECT_EQ(ErrorOfOptions({}, 2), "Parameter 'vote-threshold' expects a value >= 1");
  EXPECT_EQ(ErrorOfOptions({{"vote-threshold", "3"}}, 2),
            "threshold may not exceed children count");
  EXPECT_EQ(ErrorOfOptions({{"vote-threshold", "1"}, {"read-pattern", "x"}}, 2),
            "Please set read-pattern as fifo or quorum");
}

}  // namespace
}  // namespace ringcow
