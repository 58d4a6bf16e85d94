#ifndef RINGCOW_CLI_INTERRUPT_NOTICE_H_
#define RINGCOW_CLI_INTERRUPT_NOTICE_H_

#include <string>

namespace ringcow {

// While it exists, SIGINT and SIGTERM end the program as ever, but not without a sentence on
// stderr: so that nobody takes half of an image for all of it. One at a time.
class InterruptNotice {
 public:
  explicit InterruptNotice(const std::string& sentence);
  InterruptNotice(const InterruptNotice&) = delete;
  InterruptNotice& operator=(const InterruptNotice&) = delete;
  ~InterruptNotice();
};

}  // namespace ringcow

#endif  // RINGCOW_CLI_INTERRUPT_NOTICE_H_
