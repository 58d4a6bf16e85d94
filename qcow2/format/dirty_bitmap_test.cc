#include "qcow2/format/dirty_bitmap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace ringcow {
namespace {

constexpr uint64_t kGranularity = 512;

Geometry MakeGeometry(uint64_t virtual_size) {
  return *Geometry::Create({.cluster_bits = 9, .virtual_size = virtual_size});
}

// A bitmap of a disk of three clusters of bits (4096 each) and a bit, and a model of it by sectors.
class Model {
 public:
  static constexpr uint64_t kSize = (3 * 4096 + 1) * kGranularity;

  explicit Model(uint8_t granularity_bits = 9) : bitmap_(MakeGeometry(kSize), granularity_bits) {}

  DirtyBitmap& bitmap() { return bitmap_; }
  uint64_t size() const { return sectors_.size() * 512; }

  void Set(uint64_t offset, uint64_t bytes) {
    bitmap_.Set(GuestOffset(offset), bytes);
    if (bytes == 0 || offset >= size()) return;
    const uint64_t last = offset + std::min(bytes, size() - offset);
    const uint64_t end = std::min(size(), AlignUp(last, bitmap_.granularity()));
    for (uint64_t at = AlignDown(offset, bitmap_.granularity()); at < end; at += 512) {
      sectors_[at / 512] = true;
    }
  }
  void Clear(uint64_t offset, uint64_t bytes) {
    bitmap_.Clear(GuestOffset(offset), bytes);
    const uint64_t granularity = bitmap_.granularity();
    for (uint64_t at = AlignUp(offset, granularity); at < size(); at += granularity) {
      const uint64_t end = std::min(at + granularity, size());
      if (end > offset + bytes) return;
      for (uint64_t sector = at / 512; sector < end / 512; ++sector) sectors_[sector] = false;
    }
  }
  // For a granularity of a sector: larger bits may reach over the end.
  void Resize(uint64_t size) {
    bitmap_.Resize(size);
    sectors_.resize(size / 512, false);
  }

  void ExpectSame() const {
    uint64_t set_bits = 0;
    for (uint64_t sector = 0; sector < sectors_.size(); ++sector) {
      ASSERT_EQ(bitmap_.Get(GuestOffset(sector * 512)), sectors_[sector]) << sector;
      const bool is_first = sector % (bitmap_.granularity() / 512) == 0;
      if (sectors_[sector] && is_first) ++set_bits;
    }
    EXPECT_EQ(bitmap_.set_bits(), set_bits);
    // The runs of set bits, one after the other.
    uint64_t at = 0;
    while (at < size()) {
      const auto next =
          std::find(sectors_.begin() + static_cast<ptrdiff_t>(at / 512), sectors_.end(), true);
      const auto end = std::find(next, sectors_.end(), false);
      const auto range = bitmap_.NextDirty(GuestOffset(at));
      ASSERT_EQ(range.has_value(), next != sectors_.end()) << at;
      if (!range.has_value()) break;
      EXPECT_EQ(range->offset.value(), static_cast<uint64_t>(next - sectors_.begin()) * 512);
      EXPECT_EQ(range->bytes, static_cast<uint64_t>(end - next) * 512);
      at = range->offset.value() + range->bytes;
    }
    EXPECT_FALSE(bitmap_.NextDirty(GuestOffset(size())).has_value());
  }

 private:
  DirtyBitmap bitmap_;
  std::vector<bool> sectors_ = std::vector<bool>(kSize / 512);
};

void RandomChanges(Model& model, std::minstd_rand& random, int changes) {
  for (int i = 0; i < changes; ++i) {
    const uint64_t offset = random() % (Model::kSize + 5000);
    const uint64_t bytes = random() % 3 == 0 ? random() % 3000000 : random() % 3000;
    random() % 2 == 0 ? model.Set(offset, bytes) : model.Clear(offset, bytes);
  }
}

TEST(DirtyBitmapTest, AgreesWithAModel) {
  for (const uint8_t granularity_bits : {9, 10, 13, 20, 31}) {
    std::minstd_rand random(granularity_bits);
    Model model(granularity_bits);
    model.ExpectSame();
    for (int round = 0; round < 10; ++round) {
      RandomChanges(model, random, 10);
      ASSERT_NO_FATAL_FAILURE(model.ExpectSame());
    }
    model.Clear(0, Model::kSize);
    EXPECT_EQ(model.bitmap().set_bits(), 0u);
    model.Set(0, ~uint64_t{0});
    EXPECT_EQ(model.bitmap().set_bits(), model.bitmap().bits());
    ASSERT_NO_FATAL_FAILURE(model.ExpectSame());
    model.bitmap().ClearAll();
    EXPECT_FALSE(model.bitmap().NextDirty(GuestOffset(0)).has_value());
  }
}

TEST(DirtyBitmapTest, ResizesToAnySize) {
  std::minstd_rand random(1);
  Model model;
  for (int round = 0; round < 20; ++round) {
    RandomChanges(model, random, 3);
    if (round % 4 == 0) {
      for (uint64_t i = 0; i < model.bitmap().clusters(); ++i) model.bitmap().FillCluster(i);
      model.Set(0, ~uint64_t{0});
    }
    model.Resize(random() % 5 == 0 ? 0 : random() % (Model::kSize / 256) * 512);
    ASSERT_NO_FATAL_FAILURE(model.ExpectSame());
  }
}

TEST(DirtyBitmapTest, MergesAnyGranularity) {
  for (const uint8_t from_bits : {9, 12, 16}) {
    for (const uint8_t to_bits : {9, 12, 16}) {
      std::minstd_rand random(from_bits * 100u + to_bits);
      Model from(from_bits);
      Model to(to_bits);
      RandomChanges(from, random, 20);
      RandomChanges(to, random, 20);
      to.bitmap().Merge(from.bitmap());
      for (auto range = from.bitmap().NextDirty(GuestOffset(0)); range.has_value();
           range = from.bitmap().NextDirty(range->offset + range->bytes)) {
        to.Set(range->offset.value(), range->bytes);
      }
      ASSERT_NO_FATAL_FAILURE(to.ExpectSame());
      for (uint64_t at = 0; at < Model::kSize; at += 512) {
        EXPECT_TRUE(!from.bitmap().Get(GuestOffset(at)) || to.bitmap().Get(GuestOffset(at)));
      }
    }
  }
}

TEST(DirtyBitmapTest, IsStoredInClusters) {
  DirtyBitmap bitmap(MakeGeometry(Model::kSize), 9);
  ASSERT_EQ(bitmap.clusters(), 4u);
  bitmap.Set(GuestOffset(0), 1);                                      // bit 0
  bitmap.Set(GuestOffset(9 * kGranularity), 2 * kGranularity);        // bits 9 and 10
  bitmap.Set(GuestOffset(4096 * kGranularity), 4096 * kGranularity);  // all of cluster 1
  bitmap.Set(GuestOffset(3 * 4096 * kGranularity), 1);                // the only bit of cluster 3
  EXPECT_FALSE(bitmap.IsAllZeroes(0) || bitmap.IsAllOnes(0));
  EXPECT_TRUE(bitmap.IsAllOnes(1) && bitmap.IsAllZeroes(2) && bitmap.IsAllOnes(3));

  std::vector<std::byte> bytes(512, std::byte{0xff});
  bitmap.StoreCluster(0, bytes);
  EXPECT_EQ(bytes[0], std::byte{1});
  EXPECT_EQ(bytes[1], std::byte{6});
  EXPECT_TRUE(
      std::all_of(bytes.begin() + 2, bytes.end(), [](std::byte b) { return b == std::byte{0}; }));

  DirtyBitmap loaded(MakeGeometry(Model::kSize), 9);
  for (uint64_t i = 0; i < 4; ++i) {
    bitmap.StoreCluster(i, bytes);
    loaded.LoadCluster(i, bytes);
  }
  EXPECT_EQ(loaded.set_bits(), 4100u);
  EXPECT_TRUE(loaded.Get(GuestOffset(10 * kGranularity)) && loaded.IsAllOnes(1));

  // Ones behind the end of the disk are not bits, whether loaded or filled.
  std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
  loaded.LoadCluster(3, bytes);
  EXPECT_EQ(loaded.set_bits(), 4100u);
  loaded.FillCluster(3);
  EXPECT_EQ(loaded.set_bits(), 4100u);
  loaded.StoreCluster(3, bytes);
  EXPECT_EQ(bytes[0], std::byte{1});
  EXPECT_EQ(bytes[1], std::byte{0});
  // And stay none when the disk grows.
  loaded.Resize(Model::kSize + 4096 * kGranularity);
  EXPECT_EQ(loaded.set_bits(), 4100u);
}

TEST(DirtyBitmapTest, AllTheSameCostsNoMemory) {
  // 512 MiB of bits, in clusters of 64 KiB.
  DirtyBitmap bitmap(*Geometry::Create({.virtual_size = uint64_t{2} << 40}), 9);
  EXPECT_EQ(bitmap.bits(), uint64_t{1} << 32);
  for (uint64_t i = 0; i < bitmap.clusters(); ++i) bitmap.FillCluster(i);
  EXPECT_EQ(bitmap.set_bits(), uint64_t{1} << 32);
  EXPECT_EQ(bitmap.NextDirty(GuestOffset(1 << 20)),
            (DirtyBitmap::Range{GuestOffset(1 << 20), (uint64_t{2} << 40) - (1 << 20)}));
}

}  // namespace
}  // namespace ringcow
