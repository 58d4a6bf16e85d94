// Images that are written by this engine and by QEMU's tools in turn, and read and checked by both.

#include <algorithm>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "tests/support/exchange.h"
#include "tests/support/hosts.h"
#include "tests/support/image_model.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

constexpr uint64_t kMaxBytes = 8 << 20;

struct Format {
  uint64_t cluster_bytes;
  uint64_t refcount_bits;
  uint32_t version = 3;
  std::string others = "";  // of qemu-img's -o, for images that QEMU makes
};

std::ostream& operator<<(std::ostream& out, const Format& format) {
  return out << "v" << format.version << "_clusters" << format.cluster_bytes << "_refcounts"
             << format.refcount_bits << "_" << format.others;
}

// Ends inside a cluster.
uint64_t SizeFor(const Format& format) {
  return std::min(std::max<uint64_t>(64 * format.cluster_bytes, 1 << 20), kMaxBytes) + 1536;
}

std::vector<std::byte> WriteWithOurs(const std::string& path, uint64_t cluster,
                                     std::vector<std::byte> bytes, uint64_t seed) {
  FileHost host(path);
  absl::StatusOr<std::unique_ptr<Image>> image = Open(host.disk());
  EXPECT_TRUE(image.ok()) << image.status();
  if (!image.ok()) return bytes;
  ImageModel model(host.loop(), std::move(bytes), seed);
  EXPECT_EQ(model.Compare(**image), absl::OkStatus());
  EXPECT_EQ(model.Run(**image, {.requests = 15, .cluster_bytes = cluster, .flushes = 4}),
            absl::OkStatus());
  EXPECT_EQ(host.loop().Run((*image)->Close()), absl::OkStatus());
  return {model.bytes().begin(), model.bytes().end()};
}

// The image reads as `bytes`.
void WriteInTurn(const std::string& path, const Format& format, std::vector<std::byte> bytes,
                 std::mt19937_64& random) {
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    bytes = WriteWithOurs(path, format.cluster_bytes, std::move(bytes), random());
    ASSERT_NO_FATAL_FAILURE(ExpectCleanAndEqual(path, bytes));
    WriteWithQemu(path, format.cluster_bytes, bytes, random);
    if (testing::Test::HasFailure()) return;
  }
  bytes = WriteWithOurs(path, format.cluster_bytes, std::move(bytes), random());
  ExpectCleanAndEqual(path, bytes);
}

class ImageQemuTest : public testing::TestWithParam<Format> {};

using OursFirst = ImageQemuTest;
INSTANTIATE_TEST_SUITE_P(Formats, OursFirst,
                         testing::Values(Format{512, 1}, Format{512, 16, 2}, Format{512, 64},
                                         Format{1024, 2}, Format{4096, 8}, Format{4096, 16, 2},
                                         Format{65536, 4}, Format{65536, 16}, Format{65536, 16, 2},
                                         Format{65536, 64}, Format{1 << 20, 32},
                                         Format{2 << 20, 16}));

TEST_P(OursFirst, QemuAgrees) {
  const Format& format = GetParam();
  const TempFile file(".qcow2");
  {
    FileHost host(file.path());
    ASSERT_EQ(Create(host.disk(), {.virtual_size = SizeFor(format),
                                   .version = format.version,
                                   .cluster_size = format.cluster_bytes,
                                   .refcount_bits = format.refcount_bits}),
              absl::OkStatus());
  }
  std::mt19937_64 random(1);
  WriteInTurn(file.path(), format, std::vector<std::byte>(SizeFor(format)), random);
}

using QemuFirst = ImageQemuTest;
INSTANTIATE_TEST_SUITE_P(
    Formats, QemuFirst,
    testing::Values(Format{512, 8}, Format{512, 64, 3, ",preallocation=metadata"},
                    Format{4096, 16, 2, ",preallocation=metadata"}, Format{4096, 1},
                    Format{4096, 32, 3, ",preallocation=falloc"},
                    Format{65536, 16, 3, ",lazy_refcounts=on"}, Format{65536, 16, 2},
                    Format{65536, 64, 3, ",preallocation=full"},
                    Format{65536, 16, 3, ",preallocation=metadata"},
                    Format{65536, 16, 3, ",compression_type=zstd"}, Format{2 << 20, 16}));

TEST_P(QemuFirst, QemuAgrees) {
  const Format& format = GetParam();
  const TempFile file(".qcow2");
  QemuImg({"create", "-q", "-f", "qcow2", "-o",
           absl::StrCat("compat=v", format.version, ",cluster_size=", format.cluster_bytes,
                        ",refcount_bits=", format.refcount_bits, format.others),
           file.path(), absl::StrCat(SizeFor(format))});
  std::vector<std::byte> bytes(SizeFor(format));
  std::mt19937_64 random(2);
  WriteWithQemu(file.path(), format.cluster_bytes, bytes, random);
  WriteInTurn(file.path(), format, std::move(bytes), random);
}

// Zero clusters of both kinds, alone and among others, that are then written in part.
TEST(ImageQemu, WritesIntoZeroClusters) {
  const TempFile file(".qcow2");
  QemuImg({"create", "-q", "-f", "qcow2", file.path(), "1M"});
  QemuIo(file.path(), {"write -P 1 0 512k", "write -z 64k 128k", "write -z -u 256k 64k",
                       "discard 320k 64k", "write -z 512k 64k"});
  {
    FileHost host(file.path());
    absl::StatusOr<std::unique_ptr<Image>> image = Open(host.disk());
    ASSERT_TRUE(image.ok()) << image.status();
    const std::vector<std::byte> two(1000, std::byte{2});
    for (const uint64_t offset : {65536 + 3, 131072 - 500, 262144 + 100, 327680, 524288 + 4096}) {
      ASSERT_EQ(host.loop().Run((*image)->Write(GuestOffset(offset), two)), absl::OkStatus());
    }
    ASSERT_EQ(host.loop().Run((*image)->Close()), absl::OkStatus());
  }
  QemuIo(file.path(),
         {"read -P 1 0 64k", "read -P 0 65536 3", "read -P 2 65539 1000", "read -P 0 66539 64033",
          "read -P 2 130572 1000", "read -P 0 131572 65036", "read -P 1 192k 64k",
          "read -P 0 256k 100", "read -P 2 262244 1000", "read -P 0 263244 64436",
          "read -P 2 320k 1000", "read -P 0 328680 64536", "read -P 1 384k 128k",
          "read -P 0 512k 4k", "read -P 2 528384 1000", "read -P 0 529384 519192"});
  EXPECT_EQ(QemuCheck(file.path()).status, 0);
}

TEST(ImageQemu, RepairsWhatWasNotClosedCleanly) {
  const TempFile file(".qcow2");
  QemuImg({"create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", file.path(), "1M"});
  const ToolResult killed = RunTool({"qemu-io", "-f", "qcow2", "-c", "write -P 5 0 64k", "-c",
                                     "flush", "-c", "abort", file.path()});
  ASSERT_GE(killed.status, 128) << killed.output;
  ASSERT_NE(QemuCheck(file.path()).status, 0);
  FileHost host(file.path());
  absl::StatusOr<std::unique_ptr<Image>> image = Open(host.disk(), ReadOnly());
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_TRUE((*image)->header().dirty());

  image = Open(host.disk());
  ASSERT_TRUE(image.ok()) << image.status();
  std::vector<std::byte> bytes(65536);
  EXPECT_EQ(host.loop().Run((*image)->Read(GuestOffset(0), bytes)), absl::OkStatus());
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), std::byte{5}), 65536);
  EXPECT_EQ(host.loop().Run((*image)->Close()), absl::OkStatus());
}

}  // namespace
}  // namespace ringcow
