#include "engine/testing/disk_image.h"

#include <sys/stat.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "engine/testing/await.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

constexpr uint64_t kTebibyte = uint64_t{1} << 40;

std::vector<std::byte> BytesOf(const DiskImage& image, uint64_t offset, uint64_t length) {
  std::vector<std::byte> bytes(length, std::byte{0xee});
  image.Read(offset, bytes);
  return bytes;
}

// What DiskImage is, without blocks to share.
struct Model {
  std::vector<std::byte> bytes;

  void Write(uint64_t offset, const std::vector<std::byte>& from) {
    if (!from.empty()) bytes.resize(std::max(bytes.size(), offset + from.size()));
    std::copy(from.begin(), from.end(), bytes.begin() + static_cast<ptrdiff_t>(offset));
  }
  void Zero(uint64_t offset, uint64_t length) {
    for (uint64_t i = offset; i < std::min<uint64_t>(bytes.size(), offset + length); ++i) {
      bytes[i] = std::byte{0};
    }
  }
};

TEST(DiskImageTest, BehavesAsBytesAndCopiesAreIndependent) {
  constexpr uint64_t kSpan = uint64_t{96} * DiskImage::kBlockBytes;
  std::mt19937_64 random(1);
  DiskImage image;
  Model model;
  std::vector<std::pair<DiskImage, Model>> copies;
  for (int step = 0; step < 600; ++step) {
    const uint64_t offset = random() % kSpan;
    const uint64_t length = random() % (random() % 8 == 0 ? kSpan : 3 * DiskImage::kBlockBytes);
    switch (random() % 4) {
      case 0:
      case 1: {
        const std::vector<std::byte> bytes = RandomBytes(random, length);
        image.Write(offset, bytes);
        model.Write(offset, bytes);
        break;
      }
      case 2:
        image.Zero(offset, length);
        model.Zero(offset, length);
        break;
      default:
        if (random() % 4 != 0) break;
        image.Resize(offset);
        model.bytes.resize(offset);
        break;
    }
    ASSERT_EQ(image.size(), model.bytes.size()) << "step " << step;
    if (step % 20 == 0) copies.emplace_back(image, model);
  }
  copies.emplace_back(image, model);
  for (const auto& [copy, expected] : copies) {
    ASSERT_EQ(copy.size(), expected.bytes.size());
    EXPECT_TRUE(BytesOf(copy, 0, copy.size()) == expected.bytes);
    EXPECT_EQ(BytesOf(copy, copy.size(), 100), std::vector<std::byte>(100)) << "beyond the end";

    DiskImage rebuilt;
    rebuilt.Write(0, expected.bytes);
    EXPECT_TRUE(rebuilt == copy);
    EXPECT_EQ(rebuilt.Fingerprint(), copy.Fingerprint()) << "blocks of zeroes are like none";
  }
}

TEST(DiskImageTest, DifferentBytesPlacesAndSizesDiffer) {
  const std::vector<std::byte> one = {std::byte{1}};
  DiskImage a, b, c, d;
  a.Write(5000, one);
  b.Write(5001, one);
  c.Write(5000 + DiskImage::kBlockBytes, one);
  d = a;
  d.Resize(6000);
  const DiskImage* images[] = {&a, &b, &c, &d};
  for (const DiskImage* x : images) {
    for (const DiskImage* y : images) {
      EXPECT_EQ(*x == *y, x == y);
      EXPECT_EQ(x->Fingerprint() == y->Fingerprint(), x == y);
    }
  }
}

TEST(DiskImageTest, TerabytesCostWhatIsWritten) {
  std::mt19937_64 random(2);
  const std::vector<std::byte> bytes = RandomBytes(random, 10000);
  DiskImage image;
  image.Write(9 * kTebibyte - 77, bytes);
  image.Write(0, bytes);
  EXPECT_EQ(image.size(), 9 * kTebibyte - 77 + bytes.size());
  EXPECT_EQ(BytesOf(image, 9 * kTebibyte - 77, bytes.size()), bytes);
  EXPECT_EQ(image.blocks(), 7U);
  image.Zero(1, 8 * kTebibyte);
  EXPECT_EQ(image.blocks(), 5U);
  image.Resize(1);
  image.Resize(10 * kTebibyte);
  EXPECT_EQ(image.blocks(), 1U);
  EXPECT_EQ(BytesOf(image, 9 * kTebibyte, 64), std::vector<std::byte>(64));
}

TEST(DiskImageTest, FilesGoRoundAndStaySparse) {
  std::mt19937_64 random(3);
  DiskImage image;
  image.Write(100, RandomBytes(random, 9000));
  image.Write(kTebibyte, RandomBytes(random, 3 * DiskImage::kBlockBytes));
  image.Resize(kTebibyte + 12345);  // ends within a block
  const std::string path = testing::TempDir() + "/image";
  ASSERT_TRUE(image.SaveFile(path).ok());

  struct stat info{};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(static_cast<uint64_t>(info.st_size), image.size());
  EXPECT_LT(info.st_blocks * 512, 1 << 20);
  const absl::StatusOr<DiskImage> loaded = DiskImage::LoadFile(path);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(*loaded == image);
}

TEST(DiskImageTest, NamesTheFileThatIsMissing) {
  const absl::Status status = DiskImage::LoadFile("/nowhere/image").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(status.message().find("'/nowhere/image'"), absl::string_view::npos) << status;
}

}  // namespace
}  // namespace ringcow
