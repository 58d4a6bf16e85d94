#include "engine/task.h"

#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

Task<int> Number(int value) { co_return value; }

Task<int> SumOf(int count) {
  int sum = 0;
  for (int i = 0; i < count; ++i) sum += co_await Number(1);
  co_return sum;
}

Task<void> StoreSum(int count, int& sum) { sum = co_await SumOf(count); }

// Without symmetric transfer each await would leave its stack frames behind.
TEST(TaskTest, AMillionAwaitsThatDoNotSuspendUseOneStackFrame) {
  int sum = 0;
  StartDetached(StoreSum(1'000'000, sum));
  EXPECT_EQ(sum, 1'000'000);
}

Task<int> Depth(int remaining) {
  if (remaining == 0) co_return 0;
  co_return 1 + co_await Depth(remaining - 1);
}

Task<void> StoreDepth(int depth, int& reached) { reached = co_await Depth(depth); }

TEST(TaskTest, DeepRecursionLivesInFramesNotOnTheStack) {
  int reached = 0;
  StartDetached(StoreDepth(200'000, reached));
  EXPECT_EQ(reached, 200'000);
}

Task<void> Set(bool& flag) {
  flag = true;
  co_return;
}

Task<void> AwaitBetween(Task<void> task, const bool& ran, bool& ran_before) {
  ran_before = ran;
  co_await std::move(task);
}

TEST(TaskTest, StartsWhenItIsAwaited) {
  bool ran = false;
  bool ran_before = true;
  Task<void> task = Set(ran);
  EXPECT_FALSE(ran);
  StartDetached(AwaitBetween(std::move(task), ran, ran_before));
  EXPECT_FALSE(ran_before);
  EXPECT_TRUE(ran);
}

Task<void> Hold(std::shared_ptr<int> held) {
  (void)held;
  co_return;
}

TEST(TaskTest, ATaskThatNeverRanFreesItsArguments) {
  auto held = std::make_shared<int>(1);
  {
    Task<void> task = Hold(held);
    EXPECT_EQ(held.use_count(), 2);
    task = Hold(held);
    EXPECT_EQ(held.use_count(), 2);
  }
  EXPECT_EQ(held.use_count(), 1);
}

Task<std::unique_ptr<std::string>> MakeWord() {
  co_return std::make_unique<std::string>("cluster");
}

Task<void> StoreWord(std::string& word) { word = *co_await MakeWord(); }

TEST(TaskTest, ResultsNeedNotBeCopyable) {
  std::string word;
  StartDetached(StoreWord(word));
  EXPECT_EQ(word, "cluster");
}

}  // namespace
}  // namespace ringcow
