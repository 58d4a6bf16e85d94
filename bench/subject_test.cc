#include "bench/subject.h"

#include <fstream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "engine/loop.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr std::streamoff kFirstRefcountBlock = 0x20000;  // of a fresh image with 64 KiB clusters

class SubjectTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Rings>> rings = Rings::Create(loop_);
    ASSERT_TRUE(rings.ok()) << rings.status();
    rings_ = *std::move(rings);
    workload_.pattern = Workload::Pattern::kScattered;
    workload_.image_bytes = 64 * kBenchClusterBytes;
    workload_.requests = 64;
  }

  Loop loop_;
  std::unique_ptr<Rings> rings_;
  Workload workload_;
  const std::string path_ = testing::TempDir() + "/subject";
};

TEST_F(SubjectTest, MeasuresACleanImageWithItsTraffic) {
  ASSERT_TRUE(PrepareQcow2(*rings_, path_, workload_).ok());
  const auto measured = MeasureQcow2(*rings_, path_, workload_, OpenOptions(), {.depth = 4});
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(measured->run.requests, 64U);
  EXPECT_EQ(measured->disk[Content::kData].written_bytes, 64U * 4096);
  EXPECT_EQ(measured->disk.fsyncs, 0U) << "nothing flushes, and the close is not measured";
  EXPECT_GE(measured->rings.sqes, 64U);
  EXPECT_TRUE(CheckQcow2(*rings_, path_).ok());
}

TEST_F(SubjectTest, MeasuresARawFileWithItsFlushes) {
  ASSERT_TRUE(PrepareRaw(*rings_, path_, workload_).ok());
  const auto measured = MeasureRaw(*rings_, path_, workload_, {.depth = 1, .flush_every = 1});
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(measured->disk.fsyncs, 64U);
  EXPECT_EQ(measured->rings.sqes, 128U);
}

TEST_F(SubjectTest, ReadsFindAPopulatedImage) {
  workload_.start = Workload::Start::kPopulated;
  workload_.reads = true;
  ASSERT_TRUE(PrepareQcow2(*rings_, path_, workload_).ok());
  const auto measured = MeasureQcow2(*rings_, path_, workload_, OpenOptions(), {.depth = 4});
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(measured->disk[Content::kData].read_bytes, 64U * 4096) << "not zeroes from nowhere";
  EXPECT_EQ(measured->disk[Content::kL2].reads, 0U) << "hot";
}

TEST_F(SubjectTest, ADamagedImageIsAnError) {
  ASSERT_TRUE(PrepareQcow2(*rings_, path_, workload_).ok());
  ASSERT_TRUE(CheckQcow2(*rings_, path_).ok());
  std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(kFirstRefcountBlock).write("\0\0", 2);  // the header's refcount
  file.close();
  const absl::Status status = CheckQcow2(*rings_, path_);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(status.message().find("1 corruptions"), absl::string_view::npos) << status;
}

}  // namespace
}  // namespace ringcow
