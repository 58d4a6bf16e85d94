// Two images to which the same random things are done, one by QEMU's tools and one by us, and then
// the other way round: both stay clean, read as they should, and have the same map.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/testing/sanitized.h"
#include "gtest/gtest.h"
#include "tests/differential/hand.h"
#include "tests/differential/image_setup.h"
#include "tests/differential/model.h"
#include "tests/differential/step.h"
#include "tests/differential/twin.h"
#include "tests/support/tools.h"

namespace ringcow {
namespace {

// Which seeds: `./dev differential` asks for others than the few that are always run.
uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  uint64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

// Runs of bytes, some of them zeroes.
Model::Bytes RandomBase(const ImageSetup& setup, std::mt19937_64& random) {
  Model::Bytes base(setup.backing.empty() ? 0 : setup.base.virtual_size);
  for (size_t at = 0; at < base.size(); at += 4096) {
    std::fill_n(base.begin() + static_cast<ptrdiff_t>(at), std::min<size_t>(4096, base.size() - at),
                static_cast<std::byte>(random() % 3 == 0 ? 0 : random()));
  }
  return base;
}

class DifferentialTest : public testing::TestWithParam<uint64_t> {
 protected:
  DifferentialTest()
      : random_(GetParam()),
        setup_(RandomImageSetup(random_)),
        model_(setup_, RandomBase(setup_, random_)),
        ours_(GetParam()),
        first_(ours_, setup_, model_.base()),
        second_(qemus_, setup_, model_.base()) {}

  // Zeroes in part of the cluster in which the backing file ends: QEMU allocates it, also where
  // all that is written lies behind that end, and is zero already.
  bool ZeroesEndOfBacking(const Step& step) const;
  void DoSteps();
  void Compare();

  std::mt19937_64 random_;
  const ImageSetup setup_;
  Model model_;
  RingcowHand ours_;
  QemuHand qemus_;
  Twin first_;
  Twin second_;
  bool has_comparable_maps_ = setup_.has_comparable_maps();
  std::string script_;  // what was done
};

bool DifferentialTest::ZeroesEndOfBacking(const Step& step) const {
  const uint64_t cluster = setup_.create.cluster_size;
  const uint64_t end = model_.base().size();
  if (end % cluster == 0) return false;
  const uint64_t begin = end / cluster * cluster;
  return std::any_of(step.requests.begin(), step.requests.end(), [&](const GuestRequest& request) {
    const bool zeroes = request.kind == GuestRequest::Kind::kZero ||
                        request.kind == GuestRequest::Kind::kZeroAndUnmap;
    return zeroes && request.offset < begin + cluster && request.offset + request.length > begin;
  });
}

void DifferentialTest::DoSteps() {
  Hand* hands[] = {&ours_, &qemus_};
  for (int i = 0; i < 10; ++i) {
    // Each works on what the other left.
    if (random_() % 3 == 0) std::swap(hands[0], hands[1]);
    const Step step = RandomStep(setup_, model_.state(), random_);
    absl::StrAppend(&script_, "\n  ", hands[0]->name(), ": ", Describe(step));
    SCOPED_TRACE(testing::Message() << "first image, by" << script_);
    first_.Do(*hands[0], step);
    second_.Do(*hands[1], step);
    const uint64_t size_before = model_.bytes().size();
    model_.Apply(step);
    // QEMU commits in larger pieces, with what the backing file had around them: there, what is
    // known to be zeroes is something else afterwards.
    has_comparable_maps_ &= step.kind != Step::Kind::kCommit && !ZeroesEndOfBacking(step);
    // In front of a longer backing file QEMU makes zero clusters of all that is new, we of what
    // would shine through; and we write zeroes behind the old end of the disk, where a cluster may
    // hold something else.
    has_comparable_maps_ &=
        step.kind != Step::Kind::kResize ||
        (setup_.backing.empty() && size_before % setup_.create.cluster_size == 0);
    if (HasFailure() || i % 3 == 2) Compare();
    if (HasFailure()) return;
  }
}

void DifferentialTest::Compare() {
  {
    SCOPED_TRACE("first image");
    first_.ExpectCleanAndEqual(model_.bytes());
    first_.ExpectBase(model_.base());
    first_.ExpectBitmaps(model_.bitmaps());
  }
  {
    SCOPED_TRACE("second image");
    second_.ExpectCleanAndEqual(model_.bytes());
    second_.ExpectBase(model_.base());
    second_.ExpectBitmaps(model_.bitmaps());
  }
  QemuImg({"compare", "-f", "qcow2", "-F", "qcow2", first_.path(), second_.path()});
  if (has_comparable_maps_) EXPECT_EQ(first_.Map(), second_.Map());
}

INSTANTIATE_TEST_SUITE_P(Seed, DifferentialTest,
                         testing::Range<uint64_t>(FromEnvironment("FIRST_SEED", 1),
                                                  FromEnvironment("FIRST_SEED", 1) +
                                                      FromEnvironment("SEEDS",
                                                                      kIsSanitized ? 8 : 25)),
                         testing::PrintToStringParamName());

TEST_P(DifferentialTest, SameAsQemu) {
  SCOPED_TRACE(testing::Message() << setup_);
  if (!HasFailure()) DoSteps();
  SCOPED_TRACE(testing::Message() << "first image, by" << script_);
  if (!HasFailure()) Compare();
}

}  // namespace
}  // namespace ringcow
