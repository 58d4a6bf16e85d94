#ifndef RINGCOW_CLI_IO_LINE_READER_H_
#define RINGCOW_CLI_IO_LINE_READER_H_

#include <memory>
#include <optional>
#include <string>

namespace ringcow {

class LineEditor;

// Lines of stdin, each behind a prompt on stdout. On a terminal they can be edited, and earlier
// ones come back with the arrows; anything else gets the prompt and nothing more, as scripts
// expect.
class LineReader {
 public:
  // The prompt must outlive the reader.
  explicit LineReader(const char* prompt);
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader();

  // Without its end; nothing at the end of stdin. Blocks the thread.
  std::optional<std::string> Next();

 private:
  const char* const prompt_;
  const std::unique_ptr<LineEditor> editor_;  // on a terminal
};

}  // namespace ringcow

#endif  // RINGCOW_CLI_IO_LINE_READER_H_
