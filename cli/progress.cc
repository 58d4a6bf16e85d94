#include "cli/progress.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_format.h"

namespace ringcow {

void Progress::Set(uint64_t done, uint64_t all) {
  Set(all == 0 ? 100.0 : 100.0 * static_cast<double>(done) / static_cast<double>(all));
}

void Progress::Set(double percent) {
  percent = std::min(percent, 100.0);
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
