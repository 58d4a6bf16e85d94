// kill -9 at random moments of a guest's life with an image on a real disk: what was flushed is
// there afterwards, nothing foreign is, and the image is whole but for leaked clusters.
//
// `bazel test` runs a few kills. For many: ./dev kill-test --kills N --seed N --dir DIR.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "tests/kill/killed_image.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

constexpr size_t kLivesOfAnImage = 8;

struct Flags {
  size_t kills = 16;
  uint64_t seed = 1;
};
Flags flags;

// The name under which the file is still there when it has been removed.
std::string Keep(const TempFile& file) {
  const std::string kept = file.path() + ".kept";
  return std::rename(file.path().c_str(), kept.c_str()) == 0 ? kept : "no place";
}

TEST(KillTest, FlushedDataSurvives) {
  Tally tally;
  for (uint64_t seed = flags.seed; tally.kills() < flags.kills; ++seed) {
    const TempFile file(".qcow2");
    KilledImage image(file.path(), seed);
    for (size_t life = 0; life < kLivesOfAnImage && tally.kills() < flags.kills; ++life) {
      const std::string wrong = image.Live(tally);
      ASSERT_EQ(wrong, "") << "life " << life << " of the image with --seed " << seed
                           << ", kept in " << Keep(file);
    }
  }
  std::printf("--seed %llu, %s\n", static_cast<unsigned long long>(flags.seed),
              tally.ToString().c_str());
}

// What the test above looks for is found when flushes are acknowledged and left out.
TEST(KillTest, ControlUnflushedDataIsMissed) {
  const TempFile file(".qcow2");
  KilledImage image(file.path(), 1);
  Life life{.create = image.create(), .creates = true};
  life.flush_odds = 5;
  life.group = 32;
  life.kill_after = 200;
  life.lies_about_flushes = true;
  Tally tally;
  EXPECT_NE(image.Live(life, tally), "");
  EXPECT_EQ(tally.kills(), 1U);
}

}  // namespace
}  // namespace ringcow

namespace {

bool ParseFlags(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const absl::string_view name = argv[i];
    bool is_good = false;
    if (name == "--kills") is_good = absl::SimpleAtoi(argv[i + 1], &ringcow::flags.kills);
    if (name == "--seed") is_good = absl::SimpleAtoi(argv[i + 1], &ringcow::flags.seed);
    if (name == "--dir") is_good = setenv("TEST_TMPDIR", argv[i + 1], /*replace=*/1) == 0;
    if (!is_good) return false;
  }
  return argc % 2 == 1;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!ParseFlags(argc, argv)) {
    (void)std::fputs("usage: kill_test [--kills N] [--seed N] [--dir DIR]\n", stderr);
    return 2;
  }
  return RUN_ALL_TESTS();
}
