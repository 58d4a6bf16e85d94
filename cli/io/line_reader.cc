#include "cli/io/line_reader.h"

#include <histedit.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_format.h"

namespace ringcow {

// libedit, with the keys of emacs and what the user's ~/.editrc says.
class LineEditor {
 public:
  // Null where there is no terminal, or no memory for an editor.
  static std::unique_ptr<LineEditor> CreateOnTerminal(const char* prompt) {
    if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0) return nullptr;
    // It takes bytes for characters as the locale says.
    (void)std::setlocale(LC_CTYPE, "");
    std::unique_ptr<LineEditor> editor(new LineEditor(prompt));
    return editor->is_ready() ? std::move(editor) : nullptr;
  }
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;
  ~LineEditor() = default;

  // With its end; null at the end of stdin.
  const char* Next() {
    // What commands said goes before the prompt, which is written by another way.
    (void)std::fflush(stdout);
    int length = 0;
    const char* line = el_gets(editor_.get(), &length);
    if (line != nullptr && line[0] != '\n') {
      HistEvent event;
      (void)history(history_.get(), &event, H_ENTER, line);
    }
    return line;
  }

 private:
  static constexpr int kLinesKept = 1000;

  explicit LineEditor(const char* prompt)
      : prompt_(prompt),
        history_(history_init(), history_end),
        editor_(el_init("ringcow", stdin, stdout, stderr), el_end) {
    if (!is_ready()) return;
    HistEvent event;
    (void)history(history_.get(), &event, H_SETSIZE, kLinesKept);
    (void)history(history_.get(), &event, H_SETUNIQUE, 1);
    EditLine* const editor = editor_.get();
    (void)el_set(editor, EL_CLIENTDATA, this);
    (void)el_set(editor, EL_PROMPT, &LineEditor::Prompt);
    (void)el_set(editor, EL_EDITOR, "emacs");
    // A signal finds the terminal as it was before.
    (void)el_set(editor, EL_SIGNAL, 1);
    (void)el_set(editor, EL_HIST, history, history_.get());
    (void)el_source(editor, nullptr);
  }

  bool is_ready() const { return history_ != nullptr && editor_ != nullptr; }

  static char* Prompt(EditLine* editor) {
    LineEditor* self = nullptr;
    (void)el_get(editor, EL_CLIENTDATA, &self);
    return const_cast<char*>(self->prompt_);  // it is only read
  }

  const char* const prompt_;
  const std::unique_ptr<History, decltype(&history_end)> history_;
  const std::unique_ptr<EditLine, decltype(&el_end)> editor_;  // it looks into the history
};

LineReader::LineReader(const char* prompt)
    : prompt_(prompt), editor_(LineEditor::CreateOnTerminal(prompt)) {}

LineReader::~LineReader() = default;

std::optional<std::string> LineReader::Next() {
  std::string text;
  if (editor_ != nullptr) {
    const char* line = editor_->Next();
    if (line == nullptr) return std::nullopt;
    text = line;
  } else {
    absl::PrintF("%s", prompt_);
    (void)std::fflush(stdout);
    char* line = nullptr;
    size_t capacity = 0;
    const ssize_t length = getline(&line, &capacity, stdin);
    const std::unique_ptr<char, decltype(&std::free)> owner(line, &std::free);
    if (length < 0) return std::nullopt;
    text.assign(line, static_cast<size_t>(length));
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace ringcow
