#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/aligned_buffer.h"
#include "engine/file_descriptor.h"
#include "engine/uring_disk.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

class RegisteredFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    rings_ = Rings::Create(loop_, {.register_files = true, .sync_inline = false}).value();
    const std::optional<unsigned> slot = rings_->RegisterFile(STDIN_FILENO);
    if (!slot.has_value()) GTEST_SKIP() << "before Linux 5.19";
    rings_->UnregisterFile(*slot);
    std::memset(block_.data(), 0x5a, block_.size());
  }
  void TearDown() override { unlink(path_.c_str()); }

  std::unique_ptr<UringDisk> Open() {
    return UringDisk::Open(*rings_, path_, {.creation = UringDisk::Creation::kIfMissing}).value();
  }

  // Requests that name the descriptor would find nothing behind it.
  static void TakeDescriptorAway(const UringDisk& disk) {
    const FileDescriptor nothing(open("/dev/null", O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(dup2(nothing.get(), disk.fd()), disk.fd());
  }

  absl::Status WriteOn(UringDisk& disk, Lane lane) {
    return loop_.Run([](UringDisk& disk, Lane lane, AlignedBuffer& block) -> Task<absl::Status> {
      Chain chain = disk.NewChain();
      chain.Write(HostOffset(0), block.span(), Content::kL2).Fdatasync();
      chain.OnLane(lane);
      co_return co_await chain;
    }(disk, lane, block_));
  }

  // Nobody else has the file open: else there is no such lease.
  bool IsClosed() const {
    const FileDescriptor file(open(path_.c_str(), O_RDWR | O_CLOEXEC));
    return file.get() >= 0 && fcntl(file.get(), F_SETLEASE, F_WRLCK) == 0;
  }

  const std::string path_ = testing::TempDir() + "/registered_files.img";
  Loop loop_;
  std::unique_ptr<Rings> rings_;
  AlignedBuffer block_{4096};
};

TEST_F(RegisteredFilesTest, RequestsOfBothLanesNameTheSlot) {
  for (const Lane lane : {Lane::kData, Lane::kMetadata}) {
    const std::unique_ptr<UringDisk> disk = Open();
    TakeDescriptorAway(*disk);
    EXPECT_EQ(WriteOn(*disk, lane), absl::OkStatus());
  }
}

TEST_F(RegisteredFilesTest, NoneIsRegisteredUnlessAsked) {
  rings_ = Rings::Create(loop_).value();
  EXPECT_EQ(rings_->RegisterFile(STDIN_FILENO), std::nullopt);
  const std::unique_ptr<UringDisk> disk = Open();
  TakeDescriptorAway(*disk);
  EXPECT_FALSE(WriteOn(*disk, Lane::kData).ok());
}

TEST_F(RegisteredFilesTest, ADiskThatGoesGivesItsSlotBackAndClosesTheFile) {
  for (unsigned i = 0; i < 2 * Ring::kFileSlots; ++i) {
    ASSERT_EQ(WriteOn(*Open(), Lane::kMetadata), absl::OkStatus());
    ASSERT_TRUE(IsClosed()) << i;
  }
  const std::unique_ptr<UringDisk> disk = Open();
  EXPECT_FALSE(IsClosed());
  TakeDescriptorAway(*disk);
  EXPECT_EQ(WriteOn(*disk, Lane::kData), absl::OkStatus());
}

TEST_F(RegisteredFilesTest, WhereAllSlotsAreInUseTheDescriptorServes) {
  std::vector<unsigned> slots;
  while (const std::optional<unsigned> slot = rings_->RegisterFile(STDIN_FILENO)) {
    slots.push_back(*slot);
  }
  EXPECT_EQ(slots.size(), Ring::kFileSlots);
  EXPECT_EQ(WriteOn(*Open(), Lane::kData), absl::OkStatus());

  rings_->UnregisterFile(slots.back());
  const std::unique_ptr<UringDisk> disk = Open();
  TakeDescriptorAway(*disk);
  EXPECT_EQ(WriteOn(*disk, Lane::kData), absl::OkStatus());
}

}  // namespace
}  // namespace ringcow
