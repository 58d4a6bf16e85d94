// The header of an image becomes another one, with the power cut at every point and with each I/O
// failing once: it says what it said, or what it should say, and never anything else.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "engine/testing/ignored_fsyncs.h"
#include "engine/testing/sim_disk.h"
#include "gtest/gtest.h"
#include "qcow2/format/header.h"
#include "qcow2/header_update.h"
#include "qcow2/read_header.h"
#include "tests/explorer/failure_kind.h"
#include "tests/explorer/first_violation.h"
#include "tests/support/hosts.h"

namespace ringcow {
namespace {

using Bytes = std::vector<std::byte>;

struct Update {
  const char* name;
  uint64_t cluster_size = 65536;
  std::string before;
  std::string after;
  void (*prepare)(Header& header) = [](Header&) {};
  void (*change)(Header& header) = [](Header&) {};
};
std::ostream& operator<<(std::ostream& out, const Update& update) { return out << update.name; }

std::string Long(char letter) { return std::string(1000, letter); }

const Update kUpdates[] = {
    {.name = "AnotherName", .before = "old", .after = "a rather longer new name"},
    {.name = "LongerName", .before = "old", .after = Long('n')},
    {.name = "ShorterName", .before = Long('o'), .after = "new"},
    {.name = "LongNames", .before = Long('o'), .after = Long('n')},
    {.name = "NoName", .before = Long('o'), .after = ""},
    {.name = "FirstName", .before = "", .after = Long('n')},
    {.name = "SmallClusters", .cluster_size = 4096, .before = Long('o'), .after = Long('n')},
    {.name = "OneSector", .cluster_size = 512, .before = "old", .after = "a new name"},
    {.name = "AnotherFormat",
     .before = "old",
     .after = "new",
     .change = [](Header& header) { header.extensions.backing_format = "a format"; }},
    {.name = "Version2",
     .before = Long('o'),
     .after = Long('n'),
     .change =
         [](Header& header) {
           header.version = 2;
           header.compatible_features = 0;
         }},
    {.name = "ManyExtensions",
     .before = "old",
     .after = Long('n'),
     .prepare =
         [](Header& header) {
           header.extensions.unknown.push_back({.magic = 0x12345678, .payload = Bytes(700)});
           header.extensions.unknown.push_back(
               {.magic = 0x23456789, .payload = Bytes(900, std::byte{7})});
         }},
    {.name = "UnknownFields",
     .before = "old",
     .after = Long('n'),
     .prepare = [](Header& header) { header.unknown_fields = Bytes(64, std::byte{5}); }},
};

// What a header says, whatever its layout.
std::string Meaning(const Header& header) {
  const absl::StatusOr<Bytes> bytes = SerializeHeader(header);
  if (!bytes.ok()) return bytes.status().ToString();
  return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

absl::StatusOr<Header> ReadIn(const DiskImage& state) {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false}, state);
  return loop.Run(ReadHeader(disk));
}

class HeaderUpdateTest : public testing::TestWithParam<Update> {
 protected:
  void SetUp() override;

  std::string Violation(const DiskTrace& trace) {
    return FirstViolation(trace, prepared_, StateBudget(), states_,
                          [this](const DiskImage& state) { return Judge(state); });
  }
  std::string Judge(const DiskImage& state);
  DiskTrace TraceOfUpdate();

  Header before_;
  Header after_;
  DiskImage prepared_;
  size_t states_ = 0;
  size_t old_ones_ = 0;
};
INSTANTIATE_TEST_SUITE_P(All, HeaderUpdateTest, testing::ValuesIn(kUpdates),
                         testing::PrintToStringParamName());

void HeaderUpdateTest::SetUp() {
  Loop loop;
  SimDisk disk(loop, {.latency = 1, .record = false});
  CreateOptions create = {.virtual_size = 1 << 20, .cluster_size = GetParam().cluster_size};
  create.backing_file = GetParam().before;
  if (!create.backing_file.empty()) create.backing_format = "raw";
  ASSERT_EQ(Create(disk, create), absl::OkStatus());
  const absl::StatusOr<Header> created = loop.Run(ReadHeader(disk));
  ASSERT_TRUE(created.ok()) << created.status();
  before_ = *created;
  GetParam().prepare(before_);
  const absl::StatusOr<Bytes> bytes = SerializeHeader(before_);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  prepared_ = disk.content();
  prepared_.Write(0, *bytes);
  after_ = before_;
  after_.backing_file = GetParam().after;
  after_.extensions.backing_format.reset();
  if (!after_.backing_file.empty()) after_.extensions.backing_format = "qcow2";
  GetParam().change(after_);
}

std::string HeaderUpdateTest::Judge(const DiskImage& state) {
  const absl::StatusOr<Header> found = ReadIn(state);
  if (!found.ok()) return found.status().ToString();
  const std::string meaning = Meaning(*found);
  if (meaning == Meaning(before_)) {
    ++old_ones_;
    return "";
  }
  if (meaning == Meaning(after_)) return "";
  return absl::StrCat("the header says neither: '", found->backing_file, "'");
}

DiskTrace HeaderUpdateTest::TraceOfUpdate() {
  Loop loop;
  SimDisk disk(loop, {.seed = 5}, prepared_);
  EXPECT_EQ(loop.Run(UpdateHeader(disk, after_)), absl::OkStatus());
  return disk.trace();
}

TEST_P(HeaderUpdateTest, SaysTheOldOrTheNew) {
  Loop loop;
  SimDisk disk(loop, {.seed = 3}, prepared_);
  ASSERT_EQ(loop.Run(UpdateHeader(disk, after_)), absl::OkStatus());
  const absl::StatusOr<Bytes> expected = SerializeHeader(after_);
  ASSERT_TRUE(expected.ok()) << expected.status();
  Bytes found(expected->size());
  disk.content().Read(0, found);
  EXPECT_TRUE(found == *expected) << "laid out otherwise";
  EXPECT_EQ(Violation(disk.trace()), "");
  EXPECT_GT(old_ones_, 0U);
  EXPECT_LT(old_ones_, states_);
}

TEST_P(HeaderUpdateTest, EveryRequestFailsOnce) {
  for (const FailureKind kind : kAllFailureKinds) {
    for (uint64_t n = 0;; ++n) {
      SCOPED_TRACE(testing::Message() << NameOf(kind) << ", request " << n);
      Loop loop;
      SimDisk disk(loop, {.seed = n}, prepared_);
      disk.SetFaults(FailNth(kind, n));
      const absl::Status status = loop.Run(UpdateHeader(disk, after_));
      if (disk.requests() <= n) break;
      // What is short is continued.
      if (kind != FailureKind::kShort) EXPECT_FALSE(status.ok());
      ASSERT_EQ(Judge(disk.content()), "");
      // And it can be done once more.
      disk.SetFaults(nullptr);
      ASSERT_EQ(loop.Run(UpdateHeader(disk, after_)), absl::OkStatus());
      const absl::StatusOr<Header> found = ReadIn(disk.content());
      ASSERT_TRUE(found.ok()) << found.status();
      EXPECT_EQ(Meaning(*found), Meaning(after_));
    }
  }
}

bool FitsInOneSector(const Update& update) { return update.cluster_size == 512; }

TEST_P(HeaderUpdateTest, ControlForgottenFsyncsAreFound) {
  if (FitsInOneSector(GetParam())) GTEST_SKIP() << "nothing to be ordered";
  EXPECT_NE(Violation(WithIgnoredFsyncs(TraceOfUpdate(), [](size_t, Content) { return true; })),
            "");
}

Task<absl::Status> WriteAtOnce(Disk& disk, Bytes header) {
  CO_RETURN_IF_ERROR(co_await disk.Write(HostOffset(0), header, Content::kHeader));
  co_return co_await disk.Fdatasync();
}

TEST_P(HeaderUpdateTest, ControlOneWriteIsTorn) {
  if (FitsInOneSector(GetParam())) GTEST_SKIP() << "no disk tears a sector";
  const absl::StatusOr<Bytes> bytes = SerializeHeader(after_);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  Loop loop;
  SimDisk disk(loop, {.seed = 3}, prepared_);
  ASSERT_EQ(loop.Run(WriteAtOnce(disk, *bytes)), absl::OkStatus());
  EXPECT_NE(Violation(disk.trace()), "");
}

// Nothing has changed then.
TEST(HeaderUpdateRoomTest, RefusesWhatDoesNotFit) {
  Loop loop;
  SimDisk disk(loop, {.latency = 1});
  CreateOptions create = {.virtual_size = 1 << 20, .cluster_size = 1024};
  create.backing_file = std::string(500, 'o');
  create.backing_format = "raw";
  ASSERT_EQ(Create(disk, create), absl::OkStatus());
  absl::StatusOr<Header> header = loop.Run(ReadHeader(disk));
  ASSERT_TRUE(header.ok()) << header.status();
  const uint64_t before = disk.content().Fingerprint();
  for (const size_t length : {size_t{600}, size_t{1000}, size_t{2000}}) {
    header->backing_file = std::string(length, 'n');
    EXPECT_TRUE(absl::IsOutOfRange(loop.Run(UpdateHeader(disk, *header)))) << length;
  }
  EXPECT_EQ(disk.content().Fingerprint(), before);
}

}  // namespace
}  // namespace ringcow
