// Images that QEMU made with a backing file, snapshots, compressed clusters or subclusters, written
// by us: what they inherited stays as it was.

#include <algorithm>
#include <memory>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/uring_disk.h"
#include "gtest/gtest.h"
#include "qcow2/raw_image.h"
#include "tests/support/exchange.h"
#include "tests/support/hosts.h"
#include "tests/support/image_model.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

// What QEMU made before we write: an overlay, an image with snapshots or compressed clusters. The
// backing file and the snapshots must stay as they were.
struct Heritage {
  std::string name;
  std::string options;       // of qemu-img's -o
  bool has_backing = false;  // shorter than the image
  bool is_compressed = false;
  size_t snapshots = 0;
  uint64_t cluster_bytes = 65536;
};

std::ostream& operator<<(std::ostream& out, const Heritage& heritage) {
  return out << heritage.name;
}

class ImageHeritageTest : public testing::TestWithParam<Heritage> {
 protected:
  static constexpr uint64_t kBytes = (2 << 20) + 1536;

  void MakeBacking();
  void Make();
  void ExpectSnapshotsUnchanged();

  const TempFile backing_{".base.raw"};
  const TempFile file_{".qcow2"};
  std::mt19937_64 random_{3};
  std::vector<std::byte> bytes_ = std::vector<std::byte>(kBytes);
  std::vector<std::vector<std::byte>> snapshots_;
};

void ImageHeritageTest::MakeBacking() {
  // Runs of bytes, for compression to have something to do.
  const uint64_t length = GetParam().has_backing || GetParam().is_compressed ? kBytes * 3 / 4 : 0;
  for (uint64_t at = 0; at < length; at += 4096) {
    std::fill_n(bytes_.begin() + static_cast<ptrdiff_t>(at), std::min<uint64_t>(4096, length - at),
                static_cast<std::byte>(random_() % 4 == 0 ? 0 : random_()));
  }
  WriteFile(backing_.path(),
            std::span(bytes_).first(GetParam().is_compressed ? kBytes : length / 512 * 512));
}

void ImageHeritageTest::Make() {
  const Heritage& heritage = GetParam();
  MakeBacking();
  if (heritage.is_compressed) {
    QemuImg({"convert", "-c", "-f", "raw", "-O", "qcow2", "-o", heritage.options, backing_.path(),
             file_.path()});
  } else {
    std::vector<std::string> words = {"create", "-q", "-f", "qcow2", "-o", heritage.options};
    if (heritage.has_backing) {
      words.insert(words.end(), {"-b", backing_.path(), "-F", "raw"});
    }
    words.insert(words.end(), {file_.path(), absl::StrCat(kBytes)});
    QemuImg(words);
  }
  for (size_t i = 0; i < heritage.snapshots; ++i) {
    WriteWithQemu(file_.path(), heritage.cluster_bytes, bytes_, random_);
    QemuImg({"snapshot", "-c", absl::StrCat("s", i), file_.path()});
    snapshots_.push_back(bytes_);
  }
}

void ImageHeritageTest::ExpectSnapshotsUnchanged() {
  for (size_t i = 0; i < snapshots_.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "snapshot s" << i);
    const TempFile raw(".raw");
    const TempFile converted(".raw");
    WriteFile(raw.path(), snapshots_[i]);
    QemuImg({"convert", "-l", absl::StrCat("snapshot.name=s", i), "-f", "qcow2", "-O", "raw",
             file_.path(), converted.path()});
    QemuImg({"compare", "-f", "raw", "-F", "raw", raw.path(), converted.path()});
  }
}

INSTANTIATE_TEST_SUITE_P(
    Images, ImageHeritageTest,
    testing::Values(
        Heritage{.name = "Backing", .options = "cluster_size=65536", .has_backing = true},
        Heritage{.name = "BackingV2", .options = "compat=0.10", .has_backing = true},
        Heritage{.name = "BackingSmallClusters",
                 .options = "cluster_size=512",
                 .has_backing = true,
                 .cluster_bytes = 512},
        Heritage{.name = "BackingExtendedL2", .options = "extended_l2=on", .has_backing = true},
        Heritage{.name = "ExtendedL2",
                 .options = "extended_l2=on,cluster_size=16384",
                 .cluster_bytes = 16384},
        Heritage{.name = "ExtendedL2LargeClusters",
                 .options = "extended_l2=on,cluster_size=2M",
                 .cluster_bytes = 2 << 20},
        Heritage{.name = "Compressed", .options = "cluster_size=65536", .is_compressed = true},
        Heritage{
            .name = "CompressedZstd", .options = "compression_type=zstd", .is_compressed = true},
        Heritage{.name = "CompressedSmallClusters",
                 .options = "cluster_size=4096",
                 .is_compressed = true,
                 .cluster_bytes = 4096},
        Heritage{
            .name = "CompressedExtendedL2", .options = "extended_l2=on", .is_compressed = true},
        Heritage{.name = "Snapshots", .options = "cluster_size=65536", .snapshots = 2},
        Heritage{.name = "SnapshotsV2", .options = "compat=0.10", .snapshots = 2},
        Heritage{.name = "SnapshotsSmallClusters",
                 .options = "cluster_size=512,refcount_bits=4",
                 .snapshots = 3,
                 .cluster_bytes = 512},
        Heritage{.name = "SnapshotsExtendedL2", .options = "extended_l2=on", .snapshots = 2},
        Heritage{.name = "SnapshotsOfCompressed",
                 .options = "cluster_size=4096",
                 .is_compressed = true,
                 .snapshots = 2,
                 .cluster_bytes = 4096},
        Heritage{.name = "SnapshotsOnBacking",
                 .options = "cluster_size=65536",
                 .has_backing = true,
                 .snapshots = 2}),
    testing::PrintToStringParamName());

TEST_P(ImageHeritageTest, IsKept) {
  ASSERT_NO_FATAL_FAILURE(Make());
  for (uint64_t round = 0; round < 2; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    {
      FileHost host(file_.path());
      auto backing_disk = UringDisk::Open(host.rings(), backing_.path(), {.read_only = true});
      ASSERT_TRUE(backing_disk.ok()) << backing_disk.status();
      RawImage backing(**backing_disk, /*read_only=*/true);
      OpenOptions options;
      options.backing = &backing;
      absl::StatusOr<std::unique_ptr<Image>> image = Open(host.disk(), options);
      ASSERT_TRUE(image.ok()) << image.status();
      ImageModel model(host.loop(), bytes_, round + 1);
      ASSERT_EQ(model.Compare(**image), absl::OkStatus());
      const bool keeps_discarded = (*image)->header().version < 3 && GetParam().has_backing;
      EXPECT_EQ(model.Run(**image, {.requests = 20,
                                    .cluster_bytes = GetParam().cluster_bytes,
                                    .discards_zero = !keeps_discarded}),
                absl::OkStatus());
      EXPECT_EQ(model.Compare(**image), absl::OkStatus());
      EXPECT_EQ(host.loop().Run((*image)->Close()), absl::OkStatus());
      bytes_.assign(model.bytes().begin(), model.bytes().end());
    }
    ASSERT_NO_FATAL_FAILURE(ExpectCleanAndEqual(file_.path(), bytes_));
    ExpectSnapshotsUnchanged();
  }
}

}  // namespace
}  // namespace ringcow
