#include "qcow2/void_disk.h"

#include <cerrno>
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "engine/errno_status.h"
#include "engine/scope.h"
#include "engine/testing/await.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

absl::StatusOr<VoidDiskOptions> Parse(std::map<std::string, std::string> options) {
  ImageDescription description(std::move(options));
  return TakeVoidDiskOptions(description);
}

TEST(VoidDiskTest, ForgetsWhatIsWrittenAndGivesNothingOfItsReadersAway) {
  Loop loop;
  VoidDisk disk(loop, {.bytes = 8192});
  const std::vector<std::byte> written(4096, std::byte{1});
  EXPECT_EQ(Perform(disk, disk.Write(HostOffset(4096), written)), absl::OkStatus());
  std::vector<std::byte> read(8192, std::byte{2});
  EXPECT_EQ(Perform(disk, disk.Read(HostOffset(4096), read)), absl::OkStatus());
  EXPECT_EQ(read, std::vector<std::byte>(8192));
  EXPECT_EQ(Perform(disk, disk.Fdatasync()), absl::OkStatus());
}

TEST(VoidDiskTest, HasItsSize) {
  Loop loop;
  VoidDisk disk(loop, {.bytes = 8192});
  const std::vector<std::byte> bytes(4096);
  EXPECT_EQ(ErrnoOf(Perform(disk, disk.Write(HostOffset(8192), bytes))), ENOSPC);
  EXPECT_EQ(ErrnoOf(Perform(disk, disk.WriteZeroes(HostOffset(4097), 4096))), ENOSPC);
  EXPECT_EQ(ErrnoOf(Perform(disk, disk.Truncate(1))), EINVAL);
  EXPECT_EQ(disk.size(), 8192U);
}

TEST(VoidDiskTest, SaysThatItIsZeroWhereItIsToldTo) {
  Loop loop;
  EXPECT_FALSE(VoidDisk(loop, {}).Find(HostOffset(0), 512).hole);
  EXPECT_TRUE(VoidDisk(loop, {.is_known_zero = true}).Find(HostOffset(0), 512).hole);
}

TEST(VoidDiskTest, TakesItsTime) {
  Loop loop;
  const std::chrono::milliseconds latency(20);
  VoidDisk disk(loop, {.latency = latency});
  const auto begin = std::chrono::steady_clock::now();
  Scope scope(loop);
  for (int i = 0; i < 3; ++i) scope.Spawn(Await(disk.Fdatasync()));
  EXPECT_EQ(loop.Run(scope.Join()), absl::OkStatus());
  EXPECT_GE(std::chrono::steady_clock::now() - begin, latency);
}

TEST(VoidDiskTest, ItsOptions) {
  const absl::StatusOr<VoidDiskOptions> options =
      Parse({{"size", "1M"}, {"latency-ns", "5"}, {"read-zeroes", "on"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->bytes, uint64_t{1} << 20);
  EXPECT_EQ(options->latency, std::chrono::nanoseconds(5));
  EXPECT_TRUE(options->is_known_zero);
  EXPECT_EQ(Parse({})->bytes, uint64_t{1} << 30);
  for (const auto& [name, value] : std::map<std::string, std::string>{{"size", "-1"},
                                                                      {"size", "9E"},
                                                                      {"latency-ns", "-1"},
                                                                      {"latency-ns", "x"},
                                                                      {"read-zeroes", "perhaps"}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Parse({{name, value}}).status())) << name;
  }
}

}  // namespace
}  // namespace ringcow
