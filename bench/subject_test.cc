#include "bench/subject.h"

#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "bench/qemu.h"
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

  // Makes workload_ one of overlays, with the backing file that it needs.
  void MakeBase(Workload::Base base) {
    const std::string path = absl::StrCat(testing::TempDir(), "/", BaseName(base));
    Workload written = workload_;
    written.start = Workload::Start::kPopulated;
    const absl::Status made = base == Workload::Base::kRaw ? PrepareRaw(*rings_, path, written)
                                                           : PrepareQcow2(*rings_, path, written);
    ASSERT_TRUE(made.ok()) << made;
    workload_.start = Workload::Start::kOverlay;
    workload_.base = base;
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
  EXPECT_EQ(measured->rings.sqes, 64U) << "each flush is alone, and no SQE";
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

TEST_F(SubjectTest, AnOverlayCopiesFromItsWrittenBackingFile) {
  for (const auto base : {Workload::Base::kRaw, Workload::Base::kQcow2}) {
    MakeBase(base);
    ASSERT_TRUE(PrepareQcow2(*rings_, path_, workload_).ok());
    const auto measured = MeasureQcow2(*rings_, path_, workload_, OpenOptions(), {.depth = 4});
    ASSERT_TRUE(measured.ok()) << measured.status();
    EXPECT_EQ(measured->disk[Content::kData].written_bytes, 64U * kBenchClusterBytes);
    EXPECT_EQ(measured->disk[Content::kData].read_bytes, 64U * (kBenchClusterBytes - 4096))
        << "of the backing file";
    EXPECT_TRUE(CheckQcow2(*rings_, path_).ok());
  }
}

TEST_F(SubjectTest, AnOverlayWithSubclustersCopiesNothing) {
  MakeBase(Workload::Base::kRaw);
  workload_.extended_l2 = true;
  ASSERT_TRUE(PrepareQcow2(*rings_, path_, workload_).ok());
  const auto measured = MeasureQcow2(*rings_, path_, workload_, OpenOptions(), {.depth = 4});
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(measured->disk[Content::kData].written_bytes, 64U * 4096);
  EXPECT_EQ(measured->disk[Content::kData].read_bytes, 0U);
}

TEST_F(SubjectTest, AfterASnapshotWritesCopyTheirClusters) {
  workload_.start = Workload::Start::kSnapshot;
  ASSERT_TRUE(PrepareQcow2(*rings_, path_, workload_).ok());
  const auto measured = MeasureQcow2(*rings_, path_, workload_, OpenOptions(), {.depth = 4});
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(measured->disk[Content::kData].written_bytes, 64U * kBenchClusterBytes);
  EXPECT_EQ(measured->disk[Content::kData].read_bytes, 64U * (kBenchClusterBytes - 4096));
  EXPECT_TRUE(CheckQcow2(*rings_, path_).ok());
}

// The ceiling of images that copy moves the same bytes.
TEST_F(SubjectTest, ARawFileCopiesAsMuch) {
  MakeBase(Workload::Base::kRaw);
  const std::string base = absl::StrCat(testing::TempDir(), "/", BaseName(Workload::Base::kRaw));
  ASSERT_TRUE(PrepareRaw(*rings_, path_, workload_).ok());
  const auto measured = MeasureCopying(*rings_, path_, base, workload_, {.depth = 4});
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(measured->disk[Content::kData].written_bytes, 64U * kBenchClusterBytes);
  EXPECT_EQ(measured->disk[Content::kData].read_bytes, 64U * (kBenchClusterBytes - 4096));
}

// What QEMU measures itself on is like what we do: our engine finds the same in it.
TEST_F(SubjectTest, QemuPreparesTheSameImages) {
  const std::optional<QemuImg> qemu = QemuImg::Find();
  if (!qemu.has_value()) FAIL() << "qemu-img is not installed";
  MakeBase(Workload::Base::kRaw);
  Workload snapshot = workload_;
  snapshot.start = Workload::Start::kSnapshot;
  Workload subclusters = workload_;
  subclusters.extended_l2 = true;
  for (const Workload& workload : {workload_, subclusters, snapshot}) {
    ASSERT_TRUE(PrepareQcow2(*rings_, path_, workload).ok());
    const auto ours = MeasureQcow2(*rings_, path_, workload, OpenOptions(), {});
    ASSERT_TRUE(ours.ok()) << ours.status();
    const absl::Status prepared = qemu->Prepare(path_, workload, "native");
    ASSERT_TRUE(prepared.ok()) << prepared;
    const auto theirs = MeasureQcow2(*rings_, path_, workload, OpenOptions(), {});
    ASSERT_TRUE(theirs.ok()) << theirs.status();
    EXPECT_EQ(theirs->disk[Content::kData].written_bytes, ours->disk[Content::kData].written_bytes);
    EXPECT_EQ(theirs->disk[Content::kData].read_bytes, ours->disk[Content::kData].read_bytes);
  }
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
