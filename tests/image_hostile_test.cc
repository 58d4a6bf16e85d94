// Images that somebody broke on purpose, opened, read and written: they are refused in a sentence,
// or served as far as they go. Never a crash, nor a guest's write into what holds the image
// together.

#include <array>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/invariant.h"
#include "engine/testing/disk_image.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/format/big_endian.h"
#include "qcow2/image.h"
#include "tests/support/hosts.h"

namespace ringcow {
namespace {

constexpr uint64_t kVirtualBytes = uint64_t{512} << 10;

struct Format {
  uint32_t version;
  uint64_t cluster_bytes;
  uint64_t refcount_bits;
};
constexpr Format kFormats[] = {{3, 512, 64}, {3, 4096, 16}, {2, 4096, 16}, {3, 65536, 1}};

// An image with some of everything in it.
DiskImage MakeImage(const Format& format) {
  Loop loop;
  SimDisk disk(loop, {.record = false});
  absl::Status status = Create(disk, {.virtual_size = kVirtualBytes,
                                      .version = format.version,
                                      .cluster_size = format.cluster_bytes,
                                      .refcount_bits = format.refcount_bits});
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk);
  status.Update(image.status());
  RINGCOW_INVARIANT(status.ok(), status.ToString().c_str());
  const std::vector<std::byte> data(9000, std::byte{7});
  for (uint64_t offset = 0; offset + data.size() < kVirtualBytes; offset += 70000) {
    status.Update(loop.Run((*image)->Write(GuestOffset(offset), data)));
  }
  status.Update(loop.Run((*image)->Close()));
  RINGCOW_INVARIANT(status.ok(), status.ToString().c_str());
  return disk.content();
}

uint64_t Get64(const DiskImage& image, uint64_t offset) {
  Be64 value;
  image.Read(offset, {reinterpret_cast<std::byte*>(&value), sizeof(value)});
  return value.value();
}

void Put64(DiskImage& image, uint64_t offset, uint64_t value) {
  const Be64 field(value);
  image.Write(offset, {reinterpret_cast<const std::byte*>(&field), sizeof(field)});
}

void Put32(DiskImage& image, uint64_t offset, uint32_t value) {
  const Be32 field(value);
  image.Write(offset, {reinterpret_cast<const std::byte*>(&field), sizeof(field)});
}

struct Protected {
  std::string what;
  uint64_t begin;
  uint64_t end;
};

// Guest data was not written where the header or a table of the image is.
void ExpectNoDataIn(const std::vector<Protected>& ranges, const DiskTrace& trace) {
  for (const TraceEvent& event : trace.events()) {
    if (event.kind != TraceEvent::Kind::kStarted || event.request->op != Op::kWrite) continue;
    if (event.request->content != Content::kData) continue;
    for (const Protected& range : ranges) {
      EXPECT_FALSE(event.request->offset.value() < range.end &&
                   range.begin < event.request->end().value())
          << ToString(event) << " is in the " << range.what;
    }
  }
}

// What there is to be done with an image, whatever comes of it.
Task<absl::Status> Use(Image& image, std::vector<absl::Status>& outcomes) {
  std::vector<std::byte> bytes(40000);
  for (uint64_t at = 0; at < std::min(image.size(), kVirtualBytes); at += bytes.size()) {
    const uint64_t length = std::min<uint64_t>(bytes.size(), image.size() - at);
    const std::span<std::byte> piece = std::span(bytes).first(length);
    outcomes.push_back(co_await image.Read(GuestOffset(at), piece));
    outcomes.push_back(co_await image.Write(GuestOffset(at), piece.first((length + 2) / 3)));
    if (at % 3 == 0) outcomes.push_back(co_await image.Flush());
  }
  const std::span<std::byte> state = std::span(bytes).first(5000);
  for (const uint64_t at : {uint64_t{0}, uint64_t{3} << 20, uint64_t{1} << 40, ~uint64_t{0}}) {
    outcomes.push_back(co_await image.ReadVmState(at, state));
  }
  outcomes.push_back(co_await image.WriteVmState(uint64_t{3} << 20, state));
  outcomes.push_back(co_await image.Flush());
  outcomes.push_back(co_await image.Close());
  co_return absl::OkStatus();
}

void ExpectSentence(const absl::Status& status) {
  if (status.ok()) return;
  EXPECT_TRUE(absl::StrContains(status.message(), "'hostile'")) << status;
  EXPECT_LT(status.message().size(), 400U) << status;
}

// Opens and uses the image. Why it was refused, or OK.
absl::Status OpenAndUse(const DiskImage& content) {
  Loop loop;
  SimDisk disk(loop, {.name = "hostile"}, content);
  absl::StatusOr<std::unique_ptr<Image>> image = Open(disk);
  ExpectSentence(image.status());
  if (!image.ok()) return image.status();
  const Header& header = (*image)->header();
  const std::vector<Protected> ranges = {
      {"header", 0, (*image)->geometry().cluster_bytes()},
      {"L1 table", header.l1_table_offset.value(),
       header.l1_table_offset.value() + header.l1_table_bytes()},
      {"refcount table", header.refcount_table_offset.value(),
       header.refcount_table_offset.value() + header.refcount_table_bytes()}};
  std::vector<absl::Status> outcomes;
  (void)loop.Run(Use(**image, outcomes));
  for (const absl::Status& status : outcomes) ExpectSentence(status);
  image->reset();
  ExpectNoDataIn(ranges, disk.trace());
  EXPECT_LT(disk.content().blocks() * DiskImage::kBlockBytes, content.size() + (16U << 20));
  return absl::OkStatus();
}

struct Damage {
  std::string name;
  void (*apply)(DiskImage& image);
  absl::StatusCode refused = absl::StatusCode::kOk;  // kOk: it can be opened
};
std::ostream& operator<<(std::ostream& out, const Damage& damage) { return out << damage.name; }

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kTooLarge = absl::StatusCode::kOutOfRange;

uint64_t L1(const DiskImage& image) { return Get64(image, 40); }
uint64_t L2(const DiskImage& image) { return Get64(image, L1(image)) & 0x00fffffffffffe00; }
uint64_t RefcountTable(const DiskImage& image) { return Get64(image, 48); }
constexpr uint64_t kCopied = uint64_t{1} << 63;

const Damage kDamages[] = {
    {"Empty", [](DiskImage& image) { image.Resize(0); }, kInvalid},
    {"CutInTheHeader", [](DiskImage& image) { image.Resize(50); }, kInvalid},
    {"Magic", [](DiskImage& image) { Put32(image, 0, 0x514649fa); }, kInvalid},
    {"Version", [](DiskImage& image) { Put32(image, 4, 4); }, absl::StatusCode::kUnimplemented},
    {"ClusterBitsTooFew", [](DiskImage& image) { Put32(image, 20, 8); }, kInvalid},
    {"ClusterBitsTooMany", [](DiskImage& image) { Put32(image, 20, 63); }, kInvalid},
    {"HugeSize", [](DiskImage& image) { Put64(image, 24, ~uint64_t{0} << 9); }, kTooLarge},
    {"SizeBeyondL1", [](DiskImage& image) { Put64(image, 24, uint64_t{1} << 40); }, kInvalid},
    {"L1Huge", [](DiskImage& image) { Put32(image, 36, 0x7fffffff); }, kTooLarge},
    {"L1Unaligned", [](DiskImage& image) { Put64(image, 40, L1(image) + 8); }, kInvalid},
    {"L1BeyondEnd", [](DiskImage& image) { Put64(image, 40, uint64_t{1} << 50); }, kInvalid},
    {"L1Overflows", [](DiskImage& image) { Put64(image, 40, ~uint64_t{0} << 16); }, kInvalid},
    {"RefcountTableUnaligned", [](DiskImage& image) { Put64(image, 48, 0x10008); }, kInvalid},
    {"RefcountTableBeyondEnd", [](DiskImage& image) { Put64(image, 48, uint64_t{1} << 50); },
     kInvalid},
    {"RefcountTableHuge", [](DiskImage& image) { Put32(image, 56, 0x7fffffff); }, kTooLarge},
    {"RefcountOrder", [](DiskImage& image) { Put32(image, 96, 7); }, kInvalid},
    {"HeaderLengthShort", [](DiskImage& image) { Put32(image, 100, 40); }, kInvalid},
    {"HeaderLengthLong", [](DiskImage& image) { Put32(image, 100, 0x7fffffff); }, kInvalid},
    {"L1EntryBeyondEnd",
     [](DiskImage& image) { Put64(image, L1(image), kCopied | uint64_t{1} << 50); }},
    {"L1EntryUnaligned",
     [](DiskImage& image) { Put64(image, L1(image), kCopied | (L2(image) + 512)); }},
    {"L1EntryInHeader", [](DiskImage& image) { Put64(image, L1(image), kCopied | 512); }},
    {"L1EntryIsL1", [](DiskImage& image) { Put64(image, L1(image), kCopied | L1(image)); }},
    {"L1EntryIsRefcountTable",
     [](DiskImage& image) { Put64(image, L1(image), kCopied | RefcountTable(image)); }},
    {"L2EntryIsHeader", [](DiskImage& image) { Put64(image, L2(image), kCopied); }},
    {"L2EntryIsL1", [](DiskImage& image) { Put64(image, L2(image), kCopied | L1(image)); }},
    {"L2EntryIsRefcountTable",
     [](DiskImage& image) { Put64(image, L2(image), kCopied | RefcountTable(image)); }},
    {"L2EntryBeyondEnd",
     [](DiskImage& image) { Put64(image, L2(image), kCopied | uint64_t{1} << 50); }},
    {"L2EntryCompressed",
     [](DiskImage& image) { Put64(image, L2(image), uint64_t{1} << 62 | 0x1234567); }},
    {"RefcountBlockIsHeader", [](DiskImage& image) { Put64(image, RefcountTable(image), 512); }},
    {"RefcountBlockIsItsTable",
     [](DiskImage& image) { Put64(image, RefcountTable(image), RefcountTable(image)); }},
    {"RefcountBlockIsL1", [](DiskImage& image) { Put64(image, RefcountTable(image), L1(image)); }},
    {"RefcountBlockBeyondEnd",
     [](DiskImage& image) { Put64(image, RefcountTable(image), uint64_t{1} << 50); }},
    {"NoRefcounts", [](DiskImage& image) { image.Zero(Get64(image, RefcountTable(image)), 512); }},
    {"NoRefcountBlocks", [](DiskImage& image) { image.Zero(RefcountTable(image), 512); }},
    {"AllRefcountsHigh",
     [](DiskImage& image) {
       const uint64_t block = Get64(image, RefcountTable(image));
       for (uint64_t at = 0; at < 512; at += 8) Put64(image, block + at, 0x7777777777777777);
     }},
    {"CutBehindL1", [](DiskImage& image) { image.Resize(L1(image) + 65536); }},
};

class ImageHostileTest : public testing::TestWithParam<Damage> {};
INSTANTIATE_TEST_SUITE_P(Damages, ImageHostileTest, testing::ValuesIn(kDamages),
                         testing::PrintToStringParamName());

TEST_P(ImageHostileTest, IsRefusedOrServed) {
  for (const Format& format : kFormats) {
    // Fields that version 2 does not have mean nothing there.
    const absl::string_view name = GetParam().name;
    const bool v3_only = name == "RefcountOrder" || absl::StartsWith(name, "HeaderLength");
    if (format.version == 2 && v3_only) continue;
    SCOPED_TRACE(testing::Message() << "v" << format.version << ", " << format.cluster_bytes);
    DiskImage image = MakeImage(format);
    GetParam().apply(image);
    EXPECT_EQ(OpenAndUse(image).code(), GetParam().refused);
  }
}

// What an L2 entry says of a place where no data cluster can be. No overlap check stands behind
// that, and the table is in the cache at the second look.
TEST(ImageHostile, EntriesOfWrongPlacesAreNeitherReadNorWritten) {
  struct {
    uint64_t (*place)(const DiskImage& image);
    const char* where;
  } const kPlaces[] = {
      {L1, "lies in the L1 table"},
      {RefcountTable, "lies in the refcount table"},
      {[](const DiskImage& /*image*/) { return uint64_t{1} << 40; },
       "lies behind the end of the file"},
  };
  for (const auto& [place, where] : kPlaces) {
    DiskImage content = MakeImage(kFormats[1]);
    Put64(content, L2(content), kCopied | place(content));
    Loop loop;
    SimDisk disk(loop, {.name = "hostile"}, content);
    OpenOptions options;
    options.overlap_check = OverlapCheck::kNone;
    absl::StatusOr<std::unique_ptr<Image>> image = Open(disk, options);
    ASSERT_TRUE(image.ok()) << image.status();
    std::vector<std::byte> bytes(4096);
    for (int look = 0; look < 2; ++look) {
      const absl::Status status = loop.Run((*image)->Read(GuestOffset(0), bytes));
      EXPECT_TRUE(absl::StrContains(status.message(), where)) << status;
    }
    EXPECT_NE(loop.Run((*image)->Write(GuestOffset(0), bytes)), absl::OkStatus());
    EXPECT_EQ(disk.counters()[Content::kData].writes, 0U);
    (void)loop.Run((*image)->Close());
  }
}

// A few bytes of the metadata are changed at random; the parameter is the seed.
class ImageFuzzTest : public testing::TestWithParam<uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Seed, ImageFuzzTest, testing::Range<uint64_t>(1, 41),
                         testing::PrintToStringParamName());

uint64_t RandomValue(const DiskImage& image, std::mt19937_64& random) {
  switch (random() % 6) {
    case 0:
      return random();
    case 1:
      return uint64_t{1} << (random() % 64);
    case 2:
      return random() % 16;
    case 3:
      return ~uint64_t{0} << (random() % 64);
    default:
      return (random() % 2 << 63) | (random() % (2 * image.size()) & ~uint64_t{511});
  }
}

// The header, or something in a table, or a bit of it.
void DamageAtRandom(DiskImage& image, std::mt19937_64& random) {
  const std::array<uint64_t, 6> places = {
      0, 0, L1(image), RefcountTable(image), L2(image), Get64(image, RefcountTable(image))};
  const uint64_t place = places[random() % places.size()];
  const uint64_t at = place % image.size() + random() % (place == 0 ? 15 : 64) * 8;
  const uint64_t bit = uint64_t{1} << (random() % 64);
  Put64(image, at, random() % 2 == 0 ? Get64(image, at) ^ bit : RandomValue(image, random));
}

TEST_P(ImageFuzzTest, IsRefusedOrServed) {
  std::mt19937_64 random(GetParam());
  const DiskImage whole = MakeImage(kFormats[GetParam() % std::size(kFormats)]);
  for (int round = 0; round < 50; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    DiskImage image = whole;
    for (uint64_t i = 1 + random() % 3; i > 0; --i) DamageAtRandom(image, random);
    (void)OpenAndUse(image);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace ringcow
