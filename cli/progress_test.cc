#include "cli/progress.h"

#include <csignal>
#include <string>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

using testing::internal::CaptureStderr;
using testing::internal::CaptureStdout;
using testing::internal::GetCapturedStderr;
using testing::internal::GetCapturedStdout;

TEST(ProgressTest, AnswersASignalOnce) {
  CaptureStdout();
  CaptureStderr();
  Progress progress(/*visible=*/false);
  progress.Begin();
  progress.Set(1, 4);
  ASSERT_EQ(std::raise(SIGUSR1), 0);
  progress.Set(1, 2);
  progress.Set(3, 4);
  EXPECT_EQ(GetCapturedStderr(), "    (50.00/100%)\n");
  EXPECT_EQ(GetCapturedStdout(), "");
}

TEST(ProgressTest, IsShownOnRequest) {
  CaptureStdout();
  CaptureStderr();
  Progress progress(/*visible=*/true);
  progress.Begin();
  ASSERT_EQ(std::raise(SIGUSR1), 0);
  progress.Set(1, 2);
  progress.Finish();
  progress.End();
  EXPECT_EQ(GetCapturedStdout(), "    (0.00/100%)\r    (50.00/100%)\r    (100.00/100%)\r\n");
  EXPECT_EQ(GetCapturedStderr(), "");
}

}  // namespace
}  // namespace ringcow
