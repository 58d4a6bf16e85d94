#include "cli/progress.h"

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "absl/strings/str_format.h"

namespace ringcow {

namespace {

volatile std::sig_atomic_t is_asked = 0;  // NOLINT: of the process, like the handler

extern "C" void NoteTheQuestion(int /*signal*/) { is_asked = 1; }

}  // namespace

Progress::Progress(bool visible, double step) : visible_(visible), step_(step) {
  is_asked = 0;
  // System calls that it comes between go on.
  struct sigaction action{};
  action.sa_handler = NoteTheQuestion;
  action.sa_flags = SA_RESTART;
  (void)sigaction(SIGUSR1, &action, nullptr);
}

Progress::~Progress() { (void)std::signal(SIGUSR1, SIG_DFL); }

void Progress::Set(uint64_t done, uint64_t all) {
  Set(all == 0 ? 100.0 : 100.0 * static_cast<double>(done) / static_cast<double>(all));
}

void Progress::Set(double percent) {
  percent = std::min(percent, 100.0);
  if (is_asked != 0 && !visible_) absl::FPrintF(stderr, "    (%3.2f/100%%)\n", percent);
  is_asked = 0;
  const bool is_news =
      percent > printed_ + step_ || percent < printed_ || percent >= 100 || percent <= 0;
  if (!visible_ || !is_news) return;
  printed_ = percent;
  absl::PrintF("    (%3.2f/100%%)\r", percent);
  (void)std::fflush(stdout);
}

void Progress::End() const {
  if (visible_) absl::PrintF("\n");
}

}  // namespace ringcow
