// What every Disk promises, asked of each of them alike: what is proved on the simulated disk then
// holds on the real one.

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/aligned_buffer.h"
#include "engine/errno_status.h"
#include "engine/loop.h"
#include "engine/rings.h"
#include "engine/scope.h"
#include "engine/testing/await.h"
#include "engine/testing/sim_disk.h"
#include "engine/uring_disk.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qcow2/blkdebug/blkdebug_disk.h"
#include "qcow2/create.h"
#include "qcow2/guest_as_disk.h"
#include "qcow2/image.h"
#include "qcow2/preallocating_disk.h"
#include "qcow2/raw_image.h"

namespace ringcow {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

// Aligned for every disk here, and a whole number of its blocks.
constexpr uint64_t kBlock = 4096;

constexpr uint64_t kSeed = 20;

template <uint32_t kAlignment>
class SimHost {
 public:
  static constexpr bool kKnowsMore = false;
  static constexpr bool kAllocates = true;
  static constexpr bool kCanBeFull = true;

  SimHost()
      : disk_(loop_, {.name = "simulated",
                      .seed = kSeed,
                      .alignment = kAlignment,
                      .memory_alignment = std::min(kAlignment, 512U)}) {}

  Disk& disk() { return disk_; }
  uint64_t size() const { return disk_.content().size(); }
  void SetSizeLimit(uint64_t bytes) { disk_.SetSizeLimit(bytes, EFBIG); }

 private:
  Loop loop_;
  SimDisk disk_;
};

// A decorator of disks that has nothing to do.
class BlkdebugHost {
 public:
  static constexpr bool kKnowsMore = true;
  static constexpr bool kAllocates = true;
  static constexpr bool kCanBeFull = true;

  BlkdebugHost() : disk_(BlkdebugDisk::Open(below_.disk(), {}).value()) {}

  Disk& disk() { return *disk_; }
  uint64_t size() const { return below_.size(); }
  void SetSizeLimit(uint64_t bytes) { below_.SetSizeLimit(bytes); }

 private:
  SimHost<512> below_;
  const std::unique_ptr<BlkdebugDisk> disk_;
};

// Another, which is ahead of what it shows.
class PreallocatingHost {
 public:
  static constexpr bool kKnowsMore = true;
  static constexpr bool kAllocates = true;
  static constexpr bool kCanBeFull = true;

  PreallocatingHost() : disk_(below_.disk(), {.align = 4096, .bytes = 100'000}) {}

  Disk& disk() { return disk_; }
  uint64_t size() const {
    EXPECT_GE(below_.size(), disk_.size());
    return disk_.size();
  }
  void SetSizeLimit(uint64_t bytes) { below_.SetSizeLimit(bytes); }

 private:
  SimHost<512> below_;
  PreallocatingDisk disk_;
};

// What the guest of an image sees, which grows with the disk.
template <typename Guest>
class GuestHost {
 public:
  static constexpr bool kKnowsMore = true;
  static constexpr bool kAllocates = false;
  // It grows before it is written to, or not at all.
  static constexpr bool kCanBeFull = false;

  Disk& disk() { return disk_; }
  uint64_t size() const {
    EXPECT_EQ(guest_.get().size(), AlignUp(disk_.size(), kSectorBytes));
    return disk_.size();
  }
  void SetSizeLimit(uint64_t /*bytes*/) {}

 private:
  Guest guest_;
  GuestAsDisk disk_{guest_.loop(), guest_.get(), "guest", GuestAsDisk::BeyondEnd::kGrows};
};

class RawGuest {
 public:
  Loop& loop() { return below_.disk().loop(); }
  GuestDisk& get() { return image_; }
  const GuestDisk& get() const { return image_; }

 private:
  SimHost<512> below_;
  RawImage image_{below_.disk(), /*read_only=*/false};
};

class Qcow2Guest {
 public:
  Qcow2Guest() {
    EXPECT_EQ(loop().Run(CreateImage(below_.disk(), {.virtual_size = 0, .cluster_size = 4096})),
              absl::OkStatus());
    image_ = loop().Run(Image::Open(below_.disk(), OpenOptions())).value();
  }
  ~Qcow2Guest() { EXPECT_EQ(loop().Run(image_->Close()), absl::OkStatus()); }

  Loop& loop() { return below_.disk().loop(); }
  GuestDisk& get() { return *image_; }
  const GuestDisk& get() const { return *image_; }

 private:
  SimHost<512> below_;
  std::unique_ptr<Image> image_;
};

template <bool kDirect, bool kRegistered = false, bool kSyncInline = true>
class UringHost {
 public:
  static constexpr bool kKnowsMore = false;
  static constexpr bool kAllocates = true;
  static constexpr bool kCanBeFull = true;

  UringHost() : path_(testing::TempDir() + "/disk_conformance") {
    const Rings::Options options{.register_files = kRegistered, .sync_inline = kSyncInline};
    rings_ = Rings::Create(loop_, options).value();
    disk_ = UringDisk::Open(*rings_, path_,
                            {.direct = kDirect, .creation = UringDisk::Creation::kExclusive})
                .value();
    if (kDirect && !disk_->direct()) std::printf("%s\n", disk_->notice().c_str());
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit_before_);
  }
  ~UringHost() {
    setrlimit(RLIMIT_FSIZE, &limit_before_);
    unlink(path_.c_str());
  }

  Disk& disk() { return *disk_; }
  uint64_t size() const {
    struct stat info{};
    EXPECT_EQ(stat(path_.c_str(), &info), 0);
    return static_cast<uint64_t>(info.st_size);
  }
  void SetSizeLimit(uint64_t bytes) {
    const rlimit limit{bytes, limit_before_.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }

 private:
  const std::string path_;
  rlimit limit_before_{};
  Loop loop_;
  std::unique_ptr<Rings> rings_;
  std::unique_ptr<UringDisk> disk_;
};

template <typename Host>
class DiskConformanceTest : public testing::Test {
 protected:
  Disk& disk() { return host_.disk(); }
  Loop& loop() { return disk().loop(); }

  struct StartedRead {
    uint64_t offset = 0;
    uint64_t length = 0;
    std::span<const iovec> into;
  };
  void SpawnRandom(Scope& scope, uint64_t begin, std::span<std::byte> model,
                   std::vector<StartedRead>& reads);

  // Memory that lives as long as the test, `skew` bytes off a page.
  std::span<std::byte> Memory(uint64_t length, uint64_t skew = 0) {
    return memory_.emplace_back(length + skew).span().subspan(skew);
  }
  std::span<std::byte> Filled(uint64_t length, int value, uint64_t skew = 0) {
    const std::span<std::byte> bytes = Memory(length, skew);
    std::ranges::fill(bytes, static_cast<std::byte>(value));
    return bytes;
  }
  absl::Status Do(IoAwaiter io) { return Perform(disk(), std::move(io)); }
  absl::Status Write(uint64_t offset, std::span<const std::byte> bytes) {
    return Do(disk().Write(HostOffset(offset), bytes));
  }
  absl::Status Fill(uint64_t offset, uint64_t length, int value) {
    return Write(offset, Filled(length, value));
  }
  std::vector<std::byte> ReadBack(uint64_t offset, uint64_t length) {
    const std::span<std::byte> into = Filled(length, 0xee);
    EXPECT_EQ(Do(disk().Read(HostOffset(offset), into)), absl::OkStatus());
    return {into.begin(), into.end()};
  }
  // By a reservation, where the disk has them.
  absl::Status LengthenTo(uint64_t bytes) {
    if (!Host::kAllocates) return Do(disk().Truncate(bytes));
    return Do(disk().Allocate(HostOffset(0), bytes));
  }
  bool Holds(uint64_t offset, uint64_t length, int value) {
    const std::vector<std::byte> bytes = ReadBack(offset, length);
    return std::ranges::all_of(
        bytes, [value](std::byte byte) { return byte == static_cast<std::byte>(value); });
  }
  std::vector<int> ErrorsOf(const Chain& chain) {
    std::vector<int> errors;
    errors.reserve(chain.size());
    for (size_t i = 0; i < chain.size(); ++i) errors.push_back(chain.error(i));
    return errors;
  }

  // `length` bytes of memory as a few vectors, each anywhere in its own buffer.
  std::span<const iovec> Scattered(uint64_t length) {
    std::vector<iovec>& vectors = vectors_.emplace_back();
    while (length > 0) {
      const uint64_t part = vectors.size() == 7 ? length : 1 + random_() % length;
      vectors.push_back({Memory(part, random_() % 3 * 100).data(), part});
      length -= part;
    }
    return vectors;
  }

  Host host_;
  std::mt19937_64 random_{kSeed};
  std::deque<AlignedBuffer> memory_;
  std::deque<std::vector<iovec>> vectors_;
};

using Hosts = testing::Types<SimHost<512>, SimHost<4096>, SimHost<1>, UringHost<true>,      //
                             UringHost<false>, UringHost<true, true, false>, BlkdebugHost,  //
                             PreallocatingHost, GuestHost<RawGuest>, GuestHost<Qcow2Guest>>;
TYPED_TEST_SUITE(DiskConformanceTest, Hosts);

void CopyOut(std::span<const iovec> vectors, std::byte* to) {
  for (const iovec& vector : vectors) {
    std::memcpy(to, vector.iov_base, vector.iov_len);
    to += vector.iov_len;
  }
}

void CopyIn(std::span<const iovec> vectors, const std::byte* from) {
  for (const iovec& vector : vectors) {
    std::memcpy(vector.iov_base, from, vector.iov_len);
    from += vector.iov_len;
  }
}

// Starts one random request on a range of bytes that nothing else is using, and changes the model.
template <typename Host>
void DiskConformanceTest<Host>::SpawnRandom(Scope& scope, uint64_t begin,
                                            std::span<std::byte> model,
                                            std::vector<StartedRead>& reads) {
  const HostOffset offset(begin);
  const uint64_t length = model.size();
  const uint64_t choice = random_() % 8;
  if (choice < 4) {
    std::ranges::copy(RandomBytes(random_, length), model.data());
    if (choice < 2) {
      const std::span<const iovec> vectors = Scattered(length);
      CopyIn(vectors, model.data());
      scope.Spawn(Await(disk().WriteV(offset, vectors)));
    } else {
      const std::span<std::byte> bytes = Memory(length, random_() % 2 * 512);
      std::ranges::copy(model, bytes.data());
      scope.Spawn(Await(disk().Write(offset, bytes)));
    }
  } else if (choice < 6) {
    std::ranges::fill(model, std::byte{0});
    scope.Spawn(Await(choice == 4 ? disk().WriteZeroes(offset, length)  //
                                  : disk().Punch(offset, length)));
  } else {
    reads.push_back({begin, length, Scattered(length)});
    scope.Spawn(Await(disk().ReadV(offset, reads.back().into)));
  }
}

// Requests of every kind on neighbouring ranges of bytes, all at once, share blocks and do not
// disturb each other; the disk grows under them.
TYPED_TEST(DiskConformanceTest, NeighboursNeverLoseBytes) {
  constexpr uint64_t kSpan = 48 * kBlock;
  std::vector<std::byte> model(kSpan);
  for (uint64_t round = 0; round < 60; ++round) {
    SCOPED_TRACE(round);
    std::vector<typename TestFixture::StartedRead> reads;
    Scope scope(this->loop());
    const uint64_t span = std::min(kSpan, (round + 1) * kBlock);
    for (uint64_t begin = 0; begin < span;) {
      uint64_t length = 1 + this->random_() % (round % 3 == 0 ? 700 : 9000);
      if (round % 4 == 0) length = (1 + length / kBlock) * kBlock;
      length = std::min(length, span - begin);
      this->SpawnRandom(scope, begin, std::span(model).subspan(begin, length), reads);
      begin += length;
    }
    ASSERT_EQ(this->loop().Run(scope.Join()), absl::OkStatus());
    for (const auto& read : reads) {
      std::vector<std::byte> got(read.length);
      CopyOut(read.into, got.data());
      ASSERT_EQ(std::memcmp(got.data(), &model[read.offset], read.length), 0) << read.offset;
    }
    ASSERT_TRUE(this->ReadBack(0, kSpan) == model);
    const uint64_t odd = 1 + this->random_() % 5000;
    const std::vector<std::byte> part = this->ReadBack(odd, kSpan - odd - 7);
    ASSERT_EQ(std::memcmp(part.data(), &model[odd], part.size()), 0);
    EXPECT_EQ(this->disk().size(), this->host_.size());
  }
}

// A read-modify-write neither brings back what an overlapping whole-block write replaced, nor is it
// cut in two by it.
TYPED_TEST(DiskConformanceTest, AWriteOfWholeBlocksAndOneOfPartsAreOneAfterTheOther) {
  for (int round = 0; round < 100; ++round) {
    SCOPED_TRACE(round);
    ASSERT_TRUE(this->Fill(0, 2 * kBlock, 1).ok());
    const std::span<std::byte> whole = this->Filled(2 * kBlock, 2);
    const std::span<std::byte> part = this->Filled(1000, 3);
    const uint64_t begin = kBlock - 500 + this->random_() % 400;
    Chain chain = this->disk().NewChain();
    chain.Write(HostOffset(0), whole, Content::kL2);
    Scope scope(this->loop());
    const bool part_first = this->random_() % 2 == 0;
    if (part_first) scope.Spawn(Await(this->disk().Write(HostOffset(begin), part)));
    if (round % 2 == 0) {
      scope.Spawn(Await(this->disk().Write(HostOffset(0), whole)));
    } else {
      scope.Spawn(Await(chain));
    }
    if (!part_first) scope.Spawn(Await(this->disk().Write(HostOffset(begin), part)));
    ASSERT_EQ(this->loop().Run(scope.Join()), absl::OkStatus());

    const std::vector<std::byte> bytes = this->ReadBack(0, 2 * kBlock);
    for (uint64_t i = 0; i < bytes.size(); ++i) {
      if (i < begin || i >= begin + part.size()) {
        ASSERT_EQ(bytes[i], std::byte{2}) << "byte " << i;
      } else {
        ASSERT_EQ(bytes[i], bytes[begin]) << "byte " << i;
        ASSERT_NE(bytes[i], std::byte{1}) << "byte " << i;
      }
    }
  }
}

TYPED_TEST(DiskConformanceTest, BeyondTheEndAreZeroes) {
  EXPECT_TRUE(this->Holds(0, 3 * kBlock, 0));
  EXPECT_TRUE(this->Holds(77, 100, 0));
  ASSERT_TRUE(this->Fill(kBlock, kBlock, 5).ok());
  EXPECT_TRUE(this->Holds(0, kBlock, 0));
  EXPECT_TRUE(this->Holds(kBlock, kBlock, 5));
  EXPECT_TRUE(this->Holds(2 * kBlock, kBlock, 0));
  EXPECT_TRUE(this->Holds(uint64_t{1} << 40, kBlock + 3, 0));
  const std::vector<std::byte> across = this->ReadBack(2 * kBlock - 10, 300);
  EXPECT_EQ(std::ranges::count(across, std::byte{5}), 10);
  EXPECT_EQ(std::ranges::count(across, std::byte{0}), 290);
}

TYPED_TEST(DiskConformanceTest, SizeFollowsWhatIsDone) {
  const auto expect_size = [this](uint64_t size) {
    EXPECT_EQ(this->disk().size(), size);
    EXPECT_EQ(this->host_.size(), size);
  };
  expect_size(0);
  ASSERT_TRUE(this->Fill(kBlock, kBlock, 1).ok());
  expect_size(2 * kBlock);
  ASSERT_TRUE(this->Fill(2 * kBlock, 3, 1).ok());
  // What is written in whole blocks ends with one.
  expect_size(2 * kBlock + std::max<uint64_t>(3, this->disk().alignment()));
  ASSERT_TRUE(this->Do(this->disk().Truncate(2 * kBlock)).ok());
  expect_size(2 * kBlock);
  ASSERT_TRUE(this->Do(this->disk().Punch(HostOffset(kBlock), 4 * kBlock)).ok());
  expect_size(2 * kBlock);
  EXPECT_TRUE(this->Holds(kBlock, kBlock, 0));
  ASSERT_TRUE(this->Fill(0, 2 * kBlock, 2).ok());
  ASSERT_TRUE(this->Do(this->disk().WriteZeroes(HostOffset(kBlock), 2 * kBlock)).ok());
  expect_size(3 * kBlock);
  EXPECT_TRUE(this->Holds(0, kBlock, 2));
  EXPECT_TRUE(this->Holds(kBlock, 2 * kBlock, 0));
  ASSERT_TRUE(this->LengthenTo(5 * kBlock).ok());
  expect_size(5 * kBlock);
  EXPECT_TRUE(this->Holds(0, kBlock, 2)) << "a reservation keeps what is there";
  EXPECT_TRUE(this->Holds(3 * kBlock, 2 * kBlock, 0));

  ASSERT_TRUE(this->Do(this->disk().Truncate(100)).ok());
  expect_size(100);
  ASSERT_TRUE(this->Do(this->disk().Truncate(kBlock)).ok());
  EXPECT_TRUE(this->Holds(0, 100, 2));
  EXPECT_TRUE(this->Holds(100, kBlock - 100, 0)) << "what was cut off does not come back";
}

TYPED_TEST(DiskConformanceTest, ChangesCountsWhatAnFsyncWouldMakeDurable) {
  uint64_t before = this->disk().changes();
  EXPECT_TRUE(this->Do(this->disk().Fdatasync()).ok());
  this->ReadBack(0, kBlock);
  EXPECT_EQ(this->disk().changes(), before);
  const std::span<std::byte> bytes = this->Filled(kBlock, 1);
  Chain chain = this->disk().NewChain();
  chain.Write(HostOffset(0), bytes, Content::kL2);
  const auto expect_change = [&](const absl::Status& status) {
    EXPECT_EQ(status, absl::OkStatus());
    EXPECT_GT(this->disk().changes(), before);
    before = this->disk().changes();
  };
  expect_change(this->Write(0, bytes));
  expect_change(this->Do(this->disk().WriteDurably(HostOffset(0), bytes, Content::kL2)));
  expect_change(this->Do(this->disk().WriteZeroes(HostOffset(0), kBlock)));
  expect_change(this->Do(this->disk().Punch(HostOffset(0), kBlock)));
  expect_change(this->LengthenTo(2 * kBlock));
  expect_change(this->Do(this->disk().Truncate(kBlock)));
  expect_change(Perform(this->disk(), chain));
  EXPECT_TRUE(this->Holds(0, kBlock, 1));
}

TYPED_TEST(DiskConformanceTest, NothingIsTransferredAtOnce) {
  EXPECT_EQ(this->Write(5, {}), absl::OkStatus());
  EXPECT_EQ(this->Do(this->disk().Read(HostOffset(5), {})), absl::OkStatus());
  EXPECT_EQ(this->disk().size(), 0U);
}

TYPED_TEST(DiskConformanceTest, ManyVectorsAreOneRequest) {
  constexpr size_t kVectors = 1024;  // IOV_MAX
  std::vector<iovec> vectors;
  vectors.reserve(kVectors);
  for (size_t i = 0; i < kVectors; ++i) {
    vectors.push_back({this->Filled(512, static_cast<int>(i % 251) + 1).data(), 512});
  }
  ASSERT_EQ(this->Do(this->disk().WriteV(HostOffset(0), vectors)), absl::OkStatus());
  for (size_t i = 0; i < kVectors; i += 100) {
    EXPECT_TRUE(this->Holds(i * 512, 512, static_cast<int>(i % 251) + 1)) << i;
  }
}

TYPED_TEST(DiskConformanceTest, AChainRunsInOrderToItsEnd) {
  const size_t longest = this->disk().max_chain();
  ASSERT_GE(longest, 16U);
  for (const bool drained : {true, false}) {
    for (const Lane lane : {Lane::kData, Lane::kMetadata}) {
      Chain chain = this->disk().NewChain();
      chain.OnLane(lane);
      if (!drained) chain.WithoutDrain();
      for (size_t i = 0; i < longest; ++i) {
        chain.Write(HostOffset(i % 3 * kBlock),
                    this->Filled(kBlock * 3, static_cast<int>(i % 250) + 1), Content::kL2);
      }
      ASSERT_EQ(Perform(this->disk(), chain), absl::OkStatus());
      EXPECT_THAT(this->ErrorsOf(chain), ElementsAreArray(std::vector<int>(longest, 0)));
      const uint64_t last = (longest - 1) % 3;
      EXPECT_TRUE(
          this->Holds(last * kBlock, 3 * kBlock, static_cast<int>((longest - 1) % 250) + 1));
    }
  }
  Chain empty = this->disk().NewChain();
  EXPECT_EQ(Perform(this->disk(), empty), absl::OkStatus());
}

// A drained chain comes after everything that was handed over on its lane before it, and before
// everything after it.
TYPED_TEST(DiskConformanceTest, ADrainSeparatesBeforeAndAfter) {
  constexpr uint64_t kLong = 32 * kBlock;
  for (int round = 0; round < 50; ++round) {
    SCOPED_TRACE(round);
    const std::span<std::byte> first = this->Filled(kLong, 1);
    const std::span<std::byte> second = this->Filled(kBlock, 2);
    const std::span<std::byte> seen = this->Filled(kLong, 0xee);
    Chain chain = this->disk().NewChain();
    chain.OnLane(Lane::kData).Fdatasync().Write(HostOffset(kLong - kBlock), second, Content::kL2);
    Scope scope(this->loop());
    scope.Spawn(Await(this->disk().Write(HostOffset(0), first)));
    scope.Spawn(Await(chain));
    scope.Spawn(Await(this->disk().Read(HostOffset(0), seen)));
    ASSERT_EQ(this->loop().Run(scope.Join()), absl::OkStatus());
    ASSERT_EQ(seen.front(), std::byte{1});
    ASSERT_EQ(seen.back(), std::byte{2});
    ASSERT_TRUE(this->Holds(kLong - kBlock, kBlock, 2));
  }
}

TYPED_TEST(DiskConformanceTest, AShortOrFailedWriteCancelsTheRestOfItsChain) {
  if (!TypeParam::kCanBeFull) GTEST_SKIP();
  constexpr uint64_t kLimit = 8 * kBlock;
  ASSERT_TRUE(this->Fill(0, 4 * kBlock, 1).ok());
  this->host_.SetSizeLimit(kLimit);
  const struct {
    uint64_t offset;
    int error;
  } failures[] = {{kLimit - kBlock, EIO}, {kLimit, EFBIG}};
  for (const auto& [offset, error] : failures) {
    for (const bool drained : {true, false}) {
      Chain chain = this->disk().NewChain();
      if (!drained) chain.WithoutDrain();
      chain.Write(HostOffset(0), this->Filled(kBlock, 2), Content::kRefcountBlock)
          .Fdatasync()
          .Write(HostOffset(offset), this->Filled(2 * kBlock, 3), Content::kL2)
          .Fdatasync()
          .Write(HostOffset(kBlock), this->Filled(kBlock, 4), Content::kL1);
      const absl::Status status = Perform(this->disk(), chain);
      // One that lies on another disk may know more than that a write was short.
      const int told = this->host_.kKnowsMore && chain.error(2) == EFBIG ? EFBIG : error;
      EXPECT_EQ(ErrnoOf(status), told) << status;
      EXPECT_THAT(
          std::string(status.message()),
          HasSubstr(absl::StrFormat("write of %d bytes at host offset %#x (L2 table) of '%s'",
                                    2 * kBlock, offset, this->disk().name())));
      EXPECT_THAT(this->ErrorsOf(chain), ElementsAreArray({0, 0, told, ECANCELED, ECANCELED}));
      EXPECT_TRUE(this->Holds(0, kBlock, 2));
      EXPECT_TRUE(this->Holds(kBlock, kBlock, 1)) << "written behind a failure";
    }
  }
  // The lane goes on, and so does the chain once there is room.
  Chain again = this->disk().NewChain();
  again.Write(HostOffset(kLimit - kBlock), this->Filled(kBlock, 5), Content::kL2).Fdatasync();
  EXPECT_EQ(Perform(this->disk(), again), absl::OkStatus());
  EXPECT_TRUE(this->Holds(kLimit - kBlock, kBlock, 5));
}

TYPED_TEST(DiskConformanceTest, AFullDiskSaysSoAndKeepsWhatItTook) {
  if (!TypeParam::kCanBeFull) GTEST_SKIP();
  constexpr uint64_t kLimit = 4 * kBlock;
  this->host_.SetSizeLimit(kLimit);
  const absl::Status status = this->Fill(kLimit - kBlock, 2 * kBlock, 1);
  EXPECT_EQ(ErrnoOf(status), EFBIG) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(absl::StrFormat("write of %d bytes at host offset %#x of '%s'", 2 * kBlock,
                                        kLimit - kBlock, this->disk().name())));
  EXPECT_TRUE(this->Holds(kLimit - kBlock, kBlock, 1));
  EXPECT_EQ(ErrnoOf(this->Fill(kLimit + 3, 5, 1)), EFBIG);
  const HostOffset last(kLimit - kBlock);
  EXPECT_EQ(ErrnoOf(this->Do(this->disk().WriteDurably(HostOffset(kLimit), this->Filled(kBlock, 1),
                                                       Content::kL2))),
            EFBIG);
  EXPECT_EQ(ErrnoOf(this->Do(this->disk().WriteZeroes(last, 2 * kBlock))), EFBIG);
  EXPECT_EQ(ErrnoOf(this->Do(this->disk().Allocate(last, 2 * kBlock))), EFBIG);
  const absl::Status truncation = this->Do(this->disk().Truncate(2 * kLimit));
  EXPECT_EQ(ErrnoOf(truncation), EFBIG);
  EXPECT_THAT(std::string(truncation.message()), HasSubstr(this->disk().name()));
  EXPECT_EQ(this->host_.size(), kLimit);
  EXPECT_EQ(this->disk().size(), kLimit);
  EXPECT_TRUE(this->Fill(0, kBlock, 2).ok());
}

TYPED_TEST(DiskConformanceTest, EmptyRangesAreRefused) {
  EXPECT_EQ(ErrnoOf(this->Do(this->disk().WriteZeroes(HostOffset(0), 0))), EINVAL);
  EXPECT_EQ(ErrnoOf(this->Do(this->disk().Punch(HostOffset(0), 0))), EINVAL);
  EXPECT_EQ(ErrnoOf(this->Do(this->disk().Allocate(HostOffset(0), 0))),
            TypeParam::kAllocates ? EINVAL : EOPNOTSUPP);
}

}  // namespace
}  // namespace ringcow
