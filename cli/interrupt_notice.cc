#include "cli/interrupt_notice.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>

namespace ringcow {
namespace {

// A signal handler can do no more than write what has been made ready.
std::array<char, 4096> notice;  // NOLINT: of the process, like the handler
size_t notice_bytes = 0;        // NOLINT

extern "C" void SayAndEnd(int signal) {
  (void)!write(STDERR_FILENO, notice.data(), notice_bytes);
  (void)std::signal(signal, SIG_DFL);
  (void)raise(signal);
}

}  // namespace

InterruptNotice::InterruptNotice(const std::string& sentence) {
  notice_bytes = std::min(sentence.size(), notice.size() - 2);
  notice[0] = '\n';  // a progress may stand there
  std::copy_n(sentence.begin(), notice_bytes, notice.begin() + 1);
  notice[notice_bytes + 1] = '\n';
  notice_bytes += 2;
  for (const int number : {SIGINT, SIGTERM}) (void)std::signal(number, SayAndEnd);
}

InterruptNotice::~InterruptNotice() {
  for (const int number : {SIGINT, SIGTERM}) (void)std::signal(number, SIG_DFL);
}

}  // namespace ringcow
