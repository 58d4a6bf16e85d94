#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <thread>

#include "absl/strings/str_format.h"
#include "cli/io/session.h"

namespace ringcow {
namespace {

// Requests in the background go on meanwhile: the loop gets a turn every millisecond.
Task<bool> RunSleep(Session& session, std::vector<std::string> words) {
  using Clock = std::chrono::steady_clock;
  char* end = nullptr;
  const int64_t milliseconds = std::strtoll(words[1].c_str(), &end, 0);
  if (milliseconds < 0 || *end != '\0') {
    absl::PrintF("%s is not a valid number\n", words[1]);
    co_return false;
  }
  const Clock::time_point until = Clock::now() + std::chrono::milliseconds(milliseconds);
  while (Clock::now() < until) {
    co_await session.loop().Yield();
    const Clock::duration left = std::max(until - Clock::now(), Clock::duration::zero());
    std::this_thread::sleep_for(std::min<Clock::duration>(left, std::chrono::milliseconds(1)));
  }
  co_return true;
}

}  // namespace

const IoCommand kSleep = {
    .name = "sleep",
    .min_arguments = 1,
    .max_arguments = 1,
    .summary = "waits for the given value in milliseconds",
    .needs_image = false,
    .run = RunSleep,
};

}  // namespace ringcow
