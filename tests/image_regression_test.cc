// Images that are odd, damaged or unlucky in one particular way each.

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/errno_status.h"
#include "engine/loop.h"
#include "engine/testing/crash_point.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/create.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/format/l1_entry.h"
#include "qcow2/format/l2_entry.h"
#include "qcow2/image.h"
#include "tests/support/checked.h"

namespace ringcow {
namespace {

constexpr uint64_t kCopiedOnly = uint64_t{1} << 63;
constexpr uint64_t kRefcountTableOffsetInHeader = 48;

// An image on a disk in memory.
class Host {
 public:
  explicit Host(DiskImage content = {}) : disk_(loop_, {}, std::move(content)) {}
  ~Host() { image_.reset(); }

  void Create(const CreateOptions& options) {
    ASSERT_EQ(loop_.Run(CreateImage(disk_, options)), absl::OkStatus());
  }
  void Open(const OpenOptions& options = {}) {
    absl::StatusOr<std::unique_ptr<Image>> image = loop_.Run(Image::Open(disk_, options));
    ASSERT_EQ(image.status(), absl::OkStatus());
    image_ = *std::move(image);
  }
  absl::Status Write(uint64_t offset, uint64_t length, uint8_t value) {
    const std::vector<std::byte> bytes(length, std::byte{value});
    return loop_.Run(image_->Write(GuestOffset(offset), bytes));
  }
  absl::Status Discard(uint64_t offset, uint64_t length) {
    return loop_.Run(image_->Discard(GuestOffset(offset), length));
  }
  absl::Status Flush() { return loop_.Run(image_->Flush()); }
  absl::Status Close() {
    absl::Status status = loop_.Run(image_->Close());
    image_.reset();
    return status;
  }
  bool Holds(uint64_t offset, uint64_t length, uint8_t value) {
    std::vector<std::byte> bytes(length);
    const absl::Status status = loop_.Run(image_->Read(GuestOffset(offset), bytes));
    EXPECT_EQ(status, absl::OkStatus());
    return bytes == std::vector<std::byte>(length, std::byte{value});
  }

  SimDisk& disk() { return disk_; }
  const Image& image() const { return *image_; }

 private:
  Loop loop_;
  SimDisk disk_;
  std::unique_ptr<Image> image_;
};

uint64_t Load64(const DiskImage& disk, uint64_t offset) {
  std::vector<std::byte> bytes(8);
  disk.Read(offset, bytes);
  return LoadBe64At(bytes, 0);
}

void Store64(DiskImage& disk, uint64_t offset, uint64_t value) {
  std::vector<std::byte> bytes(8);
  StoreBe64At(bytes, 0, value);
  disk.Write(offset, bytes);
}

// An image whose first `written` guest bytes have been written, with 1s.
struct Prepared {
  DiskImage disk;
  uint64_t l1_table = 0;
  uint64_t l2_table = 0;  // the first
};

Prepared Prepare(const CreateOptions& options, uint64_t written) {
  Host host;
  host.Create(options);
  host.Open();
  EXPECT_EQ(host.Write(0, written, 1), absl::OkStatus());
  const uint64_t l1_table = host.image().header().l1_table_offset.value();
  EXPECT_EQ(host.Close(), absl::OkStatus());
  const L1Entry entry = L1Entry::FromRaw(Load64(host.disk().content(), l1_table));
  return {host.disk().content(), l1_table, entry.l2_table().value().value()};
}

TEST(ImageRegression, DiscardedSpaceIsUsedBeforeTheDiskIsFull) {
  Host host;
  host.Create({.virtual_size = 1 << 20, .cluster_size = 4096});
  OpenOptions options;
  options.grow_ahead = false;
  host.Open(options);
  ASSERT_EQ(host.Write(0, 65536, 1), absl::OkStatus());
  host.disk().SetSizeLimit(host.disk().size(), ENOSPC);
  EXPECT_EQ(ErrnoOf(host.Write(65536, 4096, 2)), ENOSPC);
  // Not flushed: what it freed can be had only behind a flush.
  ASSERT_EQ(host.Discard(0, 8192), absl::OkStatus());
  EXPECT_EQ(host.Write(65536, 4096, 2), absl::OkStatus());
  EXPECT_TRUE(host.Holds(65536, 4096, 2));
  EXPECT_TRUE(host.Holds(0, 8192, 0));
  ASSERT_EQ(host.Close(), absl::OkStatus());
  EXPECT_EQ(Findings(host.disk()), "");
}

TEST(ImageRegression, CloseKeepsWhatWasWrittenBehindTheFilesOldEnd) {
  // The file ends inside its last data cluster, whose rest reads as zeroes.
  Prepared prepared = Prepare({.virtual_size = 1 << 20}, 65536);
  prepared.disk.Resize(prepared.disk.size() - 65536 + 512);

  Host host(prepared.disk);
  host.Open();
  ASSERT_EQ(host.Write(32768, 4096, 7), absl::OkStatus());
  ASSERT_EQ(host.Flush(), absl::OkStatus());
  ASSERT_EQ(host.Close(), absl::OkStatus());
  host.Open();
  EXPECT_TRUE(host.Holds(0, 512, 1));
  EXPECT_TRUE(host.Holds(512, 32768 - 512, 0));
  EXPECT_TRUE(host.Holds(32768, 4096, 7));
}

TEST(ImageRegression, AnL1EntryWithNothingButCopiedHasNoL2Table) {
  Prepared prepared = Prepare({.virtual_size = uint64_t{2} << 30}, 512);
  Store64(prepared.disk, prepared.l1_table + 8, kCopiedOnly);

  Host host(prepared.disk);
  host.Open();
  const uint64_t offset = uint64_t{512} << 20;
  EXPECT_TRUE(host.Holds(offset, 512, 0));
  ASSERT_EQ(host.Write(offset, 512, 2), absl::OkStatus());
  ASSERT_EQ(host.Close(), absl::OkStatus());
  EXPECT_EQ(FindingsWithoutLeaks(host.disk()), "");
  host.Open();
  EXPECT_TRUE(host.Holds(0, 512, 1));
  EXPECT_TRUE(host.Holds(offset, 512, 2));
}

TEST(ImageRegression, AZeroClusterWithoutARefcountIsNotWrittenTo) {
  // Its host cluster lies in the file, but beyond what the refcount table describes; or where it
  // has no refcount block.
  for (const uint64_t cluster : {uint64_t{12} << 20, uint64_t{1} << 20}) {
    Prepared prepared = Prepare({.virtual_size = 1 << 16, .cluster_size = 512}, 512);
    prepared.disk.Resize(16 << 20);
    Store64(prepared.disk, prepared.l2_table + 8,
            L2Entry::ZeroAllocated(HostOffset(cluster), /*copied=*/true).raw());

    Host host(prepared.disk);
    host.Open();
    EXPECT_TRUE(host.Holds(512, 512, 0));
    EXPECT_FALSE(host.Write(512, 512, 2).ok());
    EXPECT_TRUE(host.Holds(512, 512, 0));
    EXPECT_EQ(host.Close(), absl::OkStatus());
  }
}

TEST(ImageRegression, ARefcountTableWithoutARefcountIsReplacedAllTheSame) {
  // 64 entries for 64 clusters of 512 bytes each.
  Prepared prepared =
      Prepare({.virtual_size = 4 << 20, .cluster_size = 512, .refcount_bits = 64}, 512);
  std::vector<std::byte> table(512);
  prepared.disk.Read(Load64(prepared.disk, kRefcountTableOffsetInHeader), table);
  const uint64_t beyond = uint64_t{64} << 20;
  prepared.disk.Write(beyond, table);
  Store64(prepared.disk, kRefcountTableOffsetInHeader, beyond);

  Host host(prepared.disk);
  host.Open();
  ASSERT_EQ(host.Write(0, 3 << 20, 2), absl::OkStatus());
  EXPECT_GT(host.image().header().refcount_table_clusters, 1U);
  ASSERT_EQ(host.Close(), absl::OkStatus());
  EXPECT_EQ(FindingsWithoutLeaks(host.disk()), "");
  host.Open();
  EXPECT_TRUE(host.Holds(0, 3 << 20, 2));
}

// The last refcount block entry in a sector of the refcount table, and the first of the next one,
// are made by one allocation; the block of the former lies in what the latter describes.
TEST(ImageRegression, ARefcountBlockIsReferredToOnlyWhenItsOwnRefcountIsDurable) {
  constexpr uint64_t kCluster = 1024;
  constexpr uint64_t kPerTable = kCluster / 8;  // of L2 entries, and of refcounts of 64 bits
  constexpr uint64_t kBoundary = 64 * kPerTable * kCluster;
  OpenOptions by_need;
  by_need.grow_ahead = false;
  Host filling;
  filling.Create({.virtual_size = 16 << 20, .cluster_size = kCluster, .refcount_bits = 64});
  filling.Open(by_need);
  uint64_t guest = 0;
  // The next run begins where entry 63 does, behind an L2 table.
  const uint64_t before_l2_table = kBoundary - (kPerTable + 1) * kCluster;
  // The file grows by whole blocks: it reaches the place with the first cluster of its block.
  constexpr uint64_t kBlock = 4096;
  while (filling.disk().size() < before_l2_table) {
    ASSERT_EQ(filling.Write(guest, kCluster, 1), absl::OkStatus());
    guest += kCluster;
  }
  for (uint64_t end = filling.disk().size() - kBlock + kCluster; end < before_l2_table;
       end += kCluster) {
    ASSERT_EQ(filling.Write(guest, kCluster, 1), absl::OkStatus());
    guest += kCluster;
  }
  ASSERT_EQ(filling.Close(), absl::OkStatus());
  ASSERT_EQ(filling.disk().size(), before_l2_table);

  const DiskImage before = filling.disk().content();
  Host host(before);
  host.Open(by_need);
  const uint64_t l2_table_bytes = kPerTable * kCluster;
  const uint64_t fresh = (guest + l2_table_bytes) / l2_table_bytes * l2_table_bytes;
  ASSERT_EQ(host.Write(fresh, l2_table_bytes, 2), absl::OkStatus());
  ASSERT_EQ(host.Flush(), absl::OkStatus());
  ASSERT_EQ(host.Close(), absl::OkStatus());
  EXPECT_EQ(Findings(host.disk()), "");

  size_t entries_written = 0;
  CrashPoint point(host.disk().trace(), before);
  do {
    for (uint64_t lost = 0; lost < 2; ++lost) {
      DiskImage state = point.durable();
      for (const PendingChange& change : point.pending()) {
        const bool is_table = change.request().content == Content::kRefcountTable;
        if (is_table && change.applied()) ++entries_written;
        if (is_table && change.sectors() > 1) {
          change.ApplyTornTo(state, [lost](uint64_t sector) { return sector % 2 != lost; });
        } else {
          change.ApplyTo(state);
        }
      }
      Host survivor(state);
      ASSERT_EQ(FindingsWithoutLeaks(survivor.disk()), "")
          << "crash after event " << point.position();
    }
  } while (point.Advance());
  EXPECT_GT(entries_written, 0U);
}

// A device keeps its size, and what was on it.
TEST(ImageRegressionTest, PreallocatedMetadataOnADeviceShowsZeroes) {
  constexpr uint64_t kDevice = uint64_t{2} << 20;
  constexpr uint64_t kVirtualSize = uint64_t{1} << 20;
  DiskImage used;
  used.Write(0, std::vector<std::byte>(kDevice, std::byte{0xaa}));
  for (const bool can_write_zeroes : {true, false}) {
    Host host(used);
    host.disk().SetFaults([](const Request& request, uint64_t) {
      return request.op == Op::kTruncate ? Fault::Error(EINVAL) : Fault::None();
    });
    if (!can_write_zeroes) host.disk().SetUnsupported({Op::kWriteZeroes});
    host.Create({.virtual_size = kVirtualSize, .preallocation = Preallocation::kMetadata});
    host.Open();
    EXPECT_TRUE(host.Holds(0, kVirtualSize, 0));
    EXPECT_EQ(host.disk().size(), kDevice);
    EXPECT_EQ(host.Close(), absl::OkStatus());
  }
}

// A search for free clusters in a table of 2^20 such entries would end after minutes.
TEST(ImageRegressionTest, ARefcountBlockThatIsNamedTwiceIsNotSearched) {
  constexpr uint64_t kCluster = 65536;
  Host host;
  host.Create({.virtual_size = uint64_t{1} << 20});
  host.Open();
  ASSERT_EQ(host.Write(0, kCluster, 1), absl::OkStatus());
  ASSERT_EQ(host.Close(), absl::OkStatus());
  DiskImage damaged = host.disk().content();
  const uint64_t table = Load64(damaged, kRefcountTableOffsetInHeader);
  Store64(damaged, table + 8, Load64(damaged, table));

  Host victim(damaged);
  victim.Open();
  EXPECT_TRUE(victim.Holds(0, kCluster, 1));
  EXPECT_EQ(victim.Write(0, kCluster, 2), absl::OkStatus());  // needs no cluster
  const absl::Status status = victim.Write(kCluster, kCluster, 2);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("two refcount table entries"), absl::string_view::npos) << status;
  EXPECT_TRUE(victim.Holds(kCluster, kCluster, 0));
  EXPECT_EQ(victim.Close(), absl::OkStatus());
}

}  // namespace
}  // namespace ringcow
