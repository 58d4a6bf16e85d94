// Compressed writes between QEMU and us, on files and with compressing threads: QEMU reads what we
// wrote and goes on with it, and the reverse; ours are about as small.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/worker_pool.h"
#include "gtest/gtest.h"
#include "tests/support/exchange.h"
#include "tests/support/hosts.h"
#include "tests/support/image_model.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;

struct Form {
  std::string name;
  CreateOptions create;
  uint64_t clusters = 24;  // of the guest, and a bit
};

std::ostream& operator<<(std::ostream& out, const Form& form) { return out << form.name; }

// Clusters that compress well, hardly, and not at all. None is all zeroes, which convert leaves
// out.
Bytes Content(const Form& form) {
  const uint64_t cluster_bytes = form.create.cluster_size;
  std::mt19937_64 random(5);
  Bytes bytes(form.clusters * cluster_bytes + 512);
  for (uint64_t at = 0; at < bytes.size(); ++at) {
    const uint64_t alphabet = uint64_t{2} << at / cluster_bytes % 8;
    bytes[at] = static_cast<std::byte>(random() % alphabet + (alphabet < 256 ? 1 : 0));
  }
  return bytes;
}

class CompressedWriteQemuTest : public testing::TestWithParam<Form> {
 protected:
  // Writes all of `bytes` compressed into a new image.
  void MakeOurs(const std::string& path, const Bytes& bytes, size_t threads);

  const TempFile ours_{".qcow2"};
  const TempFile theirs_{".qcow2"};
  const TempFile raw_{".raw"};
};

INSTANTIATE_TEST_SUITE_P(
    Forms, CompressedWriteQemuTest,
    testing::Values(Form{"SmallestClusters", {.cluster_size = 512, .refcount_bits = 64}, 200},
                    Form{"SmallestClustersZstd",
                         {.cluster_size = 512, .compression_type = CompressionType::kZstd},
                         200},
                    Form{"RefcountsOfOneBit", {.cluster_size = 4096, .refcount_bits = 1}, 80},
                    Form{"RefcountsOfTwoBits", {.cluster_size = 4096, .refcount_bits = 2}, 80},
                    Form{"Version2", {.version = 2}}, Form{"Usual", {}},
                    Form{"UsualZstd", {.compression_type = CompressionType::kZstd}},
                    Form{"ExtendedL2", {.extended_l2 = true}},
                    Form{"ExtendedL2Zstd",
                         {.extended_l2 = true, .compression_type = CompressionType::kZstd}},
                    Form{"LargestClustersZstd",
                         {.cluster_size = 2 << 20, .compression_type = CompressionType::kZstd},
                         5}),
    testing::PrintToStringParamName());

void CompressedWriteQemuTest::MakeOurs(const std::string& path, const Bytes& bytes,
                                       size_t threads) {
  FileHost host(path);
  const auto workers = WorkerPool::Create(host.rings(), threads);
  ASSERT_TRUE(workers.ok()) << workers.status();
  CreateOptions create = GetParam().create;
  create.virtual_size = bytes.size();
  ASSERT_EQ(Create(host.disk(), create), absl::OkStatus());
  OpenOptions options;
  options.workers = workers->get();
  const auto image = Open(host.disk(), options);
  ASSERT_TRUE(image.ok()) << image.status();
  ASSERT_EQ(host.loop().Run((*image)->WriteCompressed(GuestOffset(0), bytes)), absl::OkStatus());
  ASSERT_EQ(host.loop().Run((*image)->Close()), absl::OkStatus());
}

TEST_P(CompressedWriteQemuTest, QemuReadsOursWhichIsAsSmall) {
  const Bytes bytes = Content(GetParam());
  ASSERT_NO_FATAL_FAILURE(MakeOurs(ours_.path(), bytes, 3));
  ASSERT_NO_FATAL_FAILURE(ExpectCleanAndEqual(ours_.path(), bytes));

  const CreateOptions& create = GetParam().create;
  ASSERT_NO_FATAL_FAILURE(WriteFile(raw_.path(), bytes));
  QemuImg({"convert", "-c", "-f", "raw", "-O", "qcow2", "-o",
           absl::StrCat(
               "compat=", CompatName(create.version).data(), ",cluster_size=", create.cluster_size,
               ",compression_type=", CompressionTypeName(create.compression_type).data(),
               create.version < 3 ? "" : absl::StrCat(",refcount_bits=", create.refcount_bits),
               create.extended_l2 ? ",extended_l2=on" : ""),
           raw_.path(), theirs_.path()});
  const uint64_t ours = std::filesystem::file_size(ours_.path());
  const uint64_t theirs = std::filesystem::file_size(theirs_.path());
  EXPECT_LE(ours, theirs + theirs / 50 + create.cluster_size);
}

// The number of threads changes nothing of what is written.
TEST_P(CompressedWriteQemuTest, IsTheSameWithAnyNumberOfThreads) {
  const Bytes bytes = Content(GetParam());
  ASSERT_NO_FATAL_FAILURE(MakeOurs(ours_.path(), bytes, 0));
  ASSERT_NO_FATAL_FAILURE(MakeOurs(theirs_.path(), bytes, 4));
  std::ifstream one(ours_.path(), std::ios::binary);
  std::ifstream other(theirs_.path(), std::ios::binary);
  EXPECT_TRUE(std::equal(std::istreambuf_iterator<char>(one), std::istreambuf_iterator<char>(),
                         std::istreambuf_iterator<char>(other), std::istreambuf_iterator<char>()));
}

TEST_P(CompressedWriteQemuTest, BothGoOnWithOurs) {
  Bytes bytes = Content(GetParam());
  ASSERT_NO_FATAL_FAILURE(MakeOurs(ours_.path(), bytes, 2));
  std::mt19937_64 random(7);
  const uint64_t cluster_bytes = GetParam().create.cluster_size;
  for (uint64_t round = 1; round <= 2; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    WriteWithQemu(ours_.path(), cluster_bytes, bytes, random);
    {
      FileHost host(ours_.path());
      const auto workers = WorkerPool::Create(host.rings(), 2);
      ASSERT_TRUE(workers.ok()) << workers.status();
      OpenOptions options;
      options.workers = workers->get();
      const auto image = Open(host.disk(), options);
      ASSERT_TRUE(image.ok()) << image.status();
      ImageModel model(host.loop(), bytes, round);
      EXPECT_EQ(model.Compare(**image), absl::OkStatus());
      EXPECT_EQ(model.Run(**image, {.requests = cluster_bytes > 65536 ? 5U : 20U,
                                    .cluster_bytes = cluster_bytes,
                                    .writes = 30,
                                    .compressed = 30}),
                absl::OkStatus());
      EXPECT_EQ(model.Compare(**image), absl::OkStatus());
      EXPECT_EQ(host.loop().Run((*image)->Close()), absl::OkStatus());
      bytes.assign(model.bytes().begin(), model.bytes().end());
    }
    ASSERT_NO_FATAL_FAILURE(ExpectCleanAndEqual(ours_.path(), bytes));
  }
}

// Streams that QEMU packed, with ours behind them.
TEST_P(CompressedWriteQemuTest, WeGoOnWithTheirs) {
  const CreateOptions& create = GetParam().create;
  Bytes bytes = Content(GetParam());
  QemuImg({"create", "-q", "-f", "qcow2", "-o",
           absl::StrCat("compat=", CompatName(create.version).data(),
                        ",cluster_size=", create.cluster_size,
                        ",compression_type=", CompressionTypeName(create.compression_type).data(),
                        create.extended_l2 ? ",extended_l2=on" : ""),
           ours_.path(), absl::StrCat(bytes.size())});
  const uint64_t cluster_bytes = create.cluster_size;
  std::fill(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(2 * cluster_bytes), std::byte{3});
  QemuIo(ours_.path(), {absl::StrCat("write -c -P 3 0 ", cluster_bytes),
                        absl::StrCat("write -c -P 3 ", cluster_bytes, " ", cluster_bytes)});
  {
    FileHost host(ours_.path());
    const auto image = Open(host.disk());
    ASSERT_TRUE(image.ok()) << image.status();
    const uint64_t from = 2 * cluster_bytes;
    ASSERT_EQ(host.loop().Run(
                  (*image)->WriteCompressed(GuestOffset(from), std::span(bytes).subspan(from))),
              absl::OkStatus());
    ASSERT_EQ(host.loop().Run((*image)->Close()), absl::OkStatus());
  }
  ASSERT_NO_FATAL_FAILURE(ExpectCleanAndEqual(ours_.path(), bytes));
}

}  // namespace
}  // namespace ringcow
