// QEMU is the oracle for headers: what it writes we write byte for byte, and what it refuses we
// refuse in its words. Fails when qemu-img or qemu-io is missing.

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "qcow2/format/header.h"
#include "qcow2/format/options.h"
#include "qcow2/format/test_images.h"

namespace ringcow {
namespace {

// The output, standard error included, of a shell command.
std::string Shell(const std::string& command) {
  std::string output;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return "popen failed";
  std::array<char, 4096> buffer = {};
  while (const size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) {
    output.append(buffer.data(), n);
  }
  const int exit_status = pclose(pipe);
  if (exit_status != 0) output += "[failed]";
  return output;
}

std::string Path(const std::string& name) { return testing::TempDir() + "/" + name; }

std::vector<std::byte> FirstBytes(const std::string& path, uint64_t limit) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> chars(limit);
  file.read(chars.data(), static_cast<std::streamsize>(limit));
  const auto bytes = std::as_bytes(std::span(chars).first(static_cast<size_t>(file.gcount())));
  return {bytes.begin(), bytes.end()};
}

void Write(const std::string& path, const std::vector<std::byte>& bytes, uint64_t file_bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  file.close();
  std::filesystem::resize_file(path, file_bytes);
}

class QemuLayoutTest : public testing::TestWithParam<std::string> {};

TEST_P(QemuLayoutTest, IsReproducedByteForByte) {
  const std::string image = Path("layout.qcow2");
  ASSERT_EQ(Shell("cd " + testing::TempDir() +
                  " && rm -f layout.* && truncate -s 1M layout.base && "
                  "qemu-img create -q -f qcow2 " +
                  GetParam()),
            "");
  const uint64_t file_bytes = std::filesystem::file_size(image);
  const std::vector<std::byte> prefix = FirstBytes(image, kHeaderPrefixBytes);
  const absl::StatusOr<uint64_t> cluster_bytes = ReadClusterBytes(prefix);
  ASSERT_TRUE(cluster_bytes.ok()) << cluster_bytes.status();
  std::vector<std::byte> bytes = FirstBytes(image, *cluster_bytes);
  const absl::StatusOr<Header> header = ParseHeader(bytes, file_bytes);
  ASSERT_TRUE(header.ok()) << header.status();
  const absl::StatusOr<std::vector<std::byte>> ours = SerializeHeader(*header);
  ASSERT_TRUE(ours.ok()) << ours.status();
  EXPECT_EQ(*ours, bytes);
}

INSTANTIATE_TEST_SUITE_P(
    All, QemuLayoutTest,
    testing::Values("layout.qcow2 64M", "layout.qcow2 0", "layout.qcow2 2P",
                    "-o compat=0.10 layout.qcow2 64M", "-o cluster_size=512 layout.qcow2 1M",
                    "-o cluster_size=4k layout.qcow2 1M", "-o cluster_size=8k layout.qcow2 1M",
                    "-o cluster_size=2M layout.qcow2 1G",
                    "-o refcount_bits=1,lazy_refcounts=on layout.qcow2 1M",
                    "-o refcount_bits=64 layout.qcow2 1M",
                    "-o compression_type=zstd layout.qcow2 1M", "-o extended_l2=on layout.qcow2 1M",
                    "-o data_file=layout.data,data_file_raw=on layout.qcow2 1M",
                    "-b layout.base -F raw layout.qcow2",
                    "-o compat=0.10 -b layout.base -F raw layout.qcow2",
                    "-o cluster_size=512 -b layout.base -F raw layout.qcow2",
                    "-b layout.base -F raw layout.qcow2 && qemu-img bitmap --add layout.qcow2 b",
                    "layout.qcow2 1M && qemu-img snapshot -c one layout.qcow2"));

class QemuRefusalTest : public testing::TestWithParam<BrokenHeader> {};

TEST_P(QemuRefusalTest, IsInTheSameWords) {
  const BrokenHeader& broken = GetParam();
  const std::string image = Path(broken.name + ".qcow2");
  Write(image, BytesOf(broken), broken.file_bytes);
  const std::string output = Shell("qemu-io -f qcow2 -c quit " + image);
  std::filesystem::remove(image);
  EXPECT_EQ(output.substr(0, output.find('\n')),
            "qemu-io: can't open device " + image + ": " + broken.message);
}

// Where ringcow is neither stricter nor clearer.
std::vector<BrokenHeader> BrokenForBoth() {
  std::vector<BrokenHeader> headers = BrokenHeaders();
  std::erase_if(headers, [](const BrokenHeader& broken) { return !broken.same_in_qemu; });
  return headers;
}

INSTANTIATE_TEST_SUITE_P(All, QemuRefusalTest, testing::ValuesIn(BrokenForBoth()),
                         [](const auto& info) { return info.param.name; });

// QEMU opens an image that begins with a header of ours.
TEST(HeaderQemuTest, AcceptsOurs) {
  const std::string image = Path("ours.qcow2");
  Write(image, *SerializeHeader(FreshHeader()), kFreshFileBytes);
  EXPECT_EQ(Shell("qemu-io -r -f qcow2 -c length " + image), "64 MiB\n");
}

struct BrokenOptions {
  std::string arguments;
  CreateOptions options;
};

TEST(HeaderQemuTest, CreateOptionsAreRefusedInTheSameWords) {
  constexpr uint64_t kMiB = 1 << 20;
  const std::vector<BrokenOptions> kCases = {
      {"-o cluster_size=1000", {.virtual_size = kMiB, .cluster_size = 1000}},
      {"-o cluster_size=256", {.virtual_size = kMiB, .cluster_size = 256}},
      {"-o cluster_size=4M", {.virtual_size = kMiB, .cluster_size = 4 * kMiB}},
      {"-o cluster_size=0", {.virtual_size = kMiB, .cluster_size = 0}},
      {"-o refcount_bits=0", {.virtual_size = kMiB, .refcount_bits = 0}},
      {"-o refcount_bits=3", {.virtual_size = kMiB, .refcount_bits = 3}},
      {"-o refcount_bits=128", {.virtual_size = kMiB, .refcount_bits = 128}},
      {"-o compat=0.10,refcount_bits=8", {.virtual_size = kMiB, .version = 2, .refcount_bits = 8}},
      {"-o compat=0.10,refcount_bits=128",
       {.virtual_size = kMiB, .version = 2, .refcount_bits = 128}},
      {"-o compat=0.10,lazy_refcounts=on,refcount_bits=3",
       {.virtual_size = kMiB, .version = 2, .refcount_bits = 3, .lazy_refcounts = true}},
      {"-o compat=0.10,compression_type=zstd",
       {.virtual_size = kMiB, .version = 2, .compression_type = CompressionType::kZstd}},
      {"-o compat=0.10,compression_type=zstd,refcount_bits=1",
       {.virtual_size = kMiB,
        .version = 2,
        .refcount_bits = 1,
        .compression_type = CompressionType::kZstd}},
      {"-o cluster_size=512", {.virtual_size = uint64_t{129} << 30, .cluster_size = 512}},
      {"", {.virtual_size = uint64_t{4} << 50}},
  };
  const std::string image = Path("options.qcow2");
  for (const BrokenOptions& c : kCases) {
    const std::string output = Shell("qemu-img create -q -f qcow2 " + c.arguments + " " + image +
                                     " " + std::to_string(c.options.virtual_size));
    EXPECT_EQ(output, "qemu-img: " + image + ": " +
                          std::string(ValidateCreateOptions(c.options).status().message()) +
                          "\n[failed]");
  }
}

}  // namespace
}  // namespace ringcow
