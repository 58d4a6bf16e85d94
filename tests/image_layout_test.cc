// A fresh image is, byte for byte, the one that the installed qemu-img makes.

#include <sys/stat.h>

#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/testing/disk_image.h"
#include "engine/testing/sanitized.h"
#include "gtest/gtest.h"
#include "tests/support/hosts.h"
#include "tests/support/qemu_options.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;

struct Case {
  CreateOptions options;
};
std::ostream& operator<<(std::ostream& out, const Case& layout) {
  return out << layout.options.virtual_size << " bytes, " << QemuOptions(layout.options);
}

struct stat StatusOf(const std::string& path) {
  struct stat status = {};
  EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
  return status;
}

void ExpectEqualFiles(const std::string& ours, const std::string& qemus) {
  const struct stat our_status = StatusOf(ours);
  const struct stat qemu_status = StatusOf(qemus);
  EXPECT_EQ(our_status.st_size, qemu_status.st_size);
  const absl::StatusOr<DiskImage> our_bytes = DiskImage::LoadFile(ours);
  const absl::StatusOr<DiskImage> qemu_bytes = DiskImage::LoadFile(qemus);
  ASSERT_TRUE(our_bytes.ok() && qemu_bytes.ok());
  EXPECT_TRUE(*our_bytes == *qemu_bytes) << RunTool({"cmp", ours, qemus}).output;
  // At least as sparse, up to what the file system rounds.
  EXPECT_LE(our_status.st_blocks, qemu_status.st_blocks + qemu_status.st_blocks / 16 + 256);
}

void ExpectQemusLayout(const CreateOptions& options) {
  SCOPED_TRACE(testing::Message() << Case{options});
  const TempFile ours(".qcow2");
  const TempFile qemus(".qcow2");
  {
    FileHost host(ours.path());
    ASSERT_EQ(Create(host.disk(), options), absl::OkStatus());
  }
  if (options.preallocation >= Preallocation::kFalloc) {
    EXPECT_GE(static_cast<uint64_t>(StatusOf(ours.path()).st_blocks) * 512, options.virtual_size);
  }
  QemuImg({"create", "-q", "-f", "qcow2", "-o", QemuOptions(options), qemus.path(),
           absl::StrCat(options.virtual_size)});
  ExpectEqualFiles(ours.path(), qemus.path());
}

constexpr Preallocation kPreallocations[] = {Preallocation::kMetadata, Preallocation::kOff,
                                             Preallocation::kFalloc, Preallocation::kFull};

class ImageLayoutTest : public testing::TestWithParam<Preallocation> {};

INSTANTIATE_TEST_SUITE_P(Preallocations, ImageLayoutTest,
                         testing::ValuesIn(SomeOf(kPreallocations)), [](const auto& info) {
                           return std::string(PreallocationName(info.param));
                         });

TEST_P(ImageLayoutTest, ClusterSizesAndRefcountWidths) {
  for (const uint64_t cluster_size : {512, 1024, 4096, 65536, 1 << 20, 2 << 20}) {
    for (const uint64_t refcount_bits : {1, 2, 4, 8, 16, 32, 64}) {
      // All widths with the smallest clusters, which need the most blocks; else the extremes.
      if (cluster_size > 512 && refcount_bits != 16 && refcount_bits != 1 && refcount_bits != 64) {
        continue;
      }
      ExpectQemusLayout({.virtual_size = 40 * cluster_size + 512,
                         .cluster_size = cluster_size,
                         .refcount_bits = refcount_bits,
                         .preallocation = GetParam()});
      if (HasFailure()) return;
    }
  }
}

TEST_P(ImageLayoutTest, Versions) {
  for (const uint64_t cluster_size : {512, 4096, 65536}) {
    ExpectQemusLayout({.virtual_size = 3 * kMiB,
                       .version = 2,
                       .cluster_size = cluster_size,
                       .preallocation = GetParam()});
    ExpectQemusLayout({.virtual_size = 3 * kMiB,
                       .cluster_size = cluster_size,
                       .lazy_refcounts = true,
                       .preallocation = GetParam()});
    ExpectQemusLayout({.virtual_size = 3 * kMiB,
                       .cluster_size = cluster_size,
                       .compression_type = CompressionType::kZstd,
                       .preallocation = GetParam()});
  }
}

TEST_P(ImageLayoutTest, ExtendedL2Entries) {
  for (const uint64_t cluster_size : {16384, 65536, 2 << 20}) {
    ExpectQemusLayout({.virtual_size = 5 * kMiB - 512,
                       .cluster_size = cluster_size,
                       .extended_l2 = true,
                       .preallocation = GetParam()});
  }
}

TEST_P(ImageLayoutTest, SizesThatEndAnywhere) {
  for (const uint64_t size :
       std::vector<uint64_t>{0, 1, 512, 513, 65536 - 512, 65536 + 512, 5 * kMiB - 512, 64 * kMiB}) {
    ExpectQemusLayout({.virtual_size = size, .preallocation = GetParam()});
    if (size > 8 * kMiB) continue;
    ExpectQemusLayout({.virtual_size = size, .cluster_size = 512, .preallocation = GetParam()});
  }
}

// New refcount blocks all the time, and refcount tables that become too small several times.
TEST_P(ImageLayoutTest, RefcountStructuresGrow) {
  for (const uint64_t refcount_bits : {16, 64}) {
    for (const uint64_t size : {2 * kMiB, 20 * kMiB}) {
      ExpectQemusLayout({.virtual_size = size,
                         .cluster_size = 512,
                         .refcount_bits = refcount_bits,
                         .preallocation = GetParam()});
      if (HasFailure()) return;
    }
  }
}

TEST(ImageLayout, LargeL1Tables) {
  // An L1 table of thousands of clusters is what makes the refcount structures grow here.
  ExpectQemusLayout({.virtual_size = 10 * kGiB, .cluster_size = 512});
  ExpectQemusLayout({.virtual_size = 10 * kGiB, .cluster_size = 512, .refcount_bits = 64});
  ExpectQemusLayout({.virtual_size = kGiB});
  ExpectQemusLayout({.virtual_size = 1024 * kGiB});
  ExpectQemusLayout({.virtual_size = 1024 * kGiB, .refcount_bits = 64});
  ExpectQemusLayout({.virtual_size = 1024 * kGiB, .cluster_size = 4096, .refcount_bits = 64});
  ExpectQemusLayout({.virtual_size = 1024 * kGiB, .cluster_size = 2 * kMiB});
  ExpectQemusLayout({.virtual_size = kGiB, .preallocation = Preallocation::kMetadata});
}

}  // namespace
}  // namespace ringcow
