#ifndef RINGCOW_CLI_IO_SESSION_H_
#define RINGCOW_CLI_IO_SESSION_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cli/program.h"
#include "cli/target.h"
#include "engine/invariant.h"
#include "engine/scope.h"
#include "engine/task.h"

namespace ringcow {

// A run of qemu-io: one image at a time, and commands for it, one after the other.
class Session {
 public:
  // Both must outlive the session. Without an image only commands that need none can be run.
  Session(const Program& program, Host& host)
      : program_(program), host_(host), in_background_(host.loop) {}

  // Opens an image. FailedPrecondition when one is open.
  Task<absl::Status> Open(std::string name, TargetOptions options);
  // Waits for what runs in the background, and closes the image, if one is open.
  Task<absl::Status> Close();
  // Opens the same image anew; as it was before when that fails.
  Task<absl::Status> Reopen(TargetOptions options);

  // Carries out one line; false when it failed, which was said on the terminal.
  Task<bool> Execute(std::string line);
  // Lines from stdin behind a prompt, until its end or `quit`. False when any failed.
  Task<bool> ExecuteStdin();

  // Why a request failed, as QEMU says it.
  std::string Explain(const absl::Status& status);

  // Whether a flush went well. That it did not is told by the exit status, as with QEMU, and when
  // the image is closed.
  bool HasFlushed(const absl::Status& status);

  // Says on the terminal what is wrong, if anything is; whether all is well.
  bool Say(const absl::Status& status) const;

  // For commands.
  const Program& program() const { return program_; }
  Loop& loop() const { return host_.loop; }
  Rings& rings() const { return *host_.rings; }
  const Target& target() const {
    RINGCOW_INVARIANT(target_.has_value(), "commands that need an image run with one only");
    return *target_;
  }
  GuestDisk& disk() const { return target().guest(); }
  // How the image was opened.
  const TargetOptions& options() const { return options_; }
  void Quit() { quit_ = true; }
  bool has_quit() const { return quit_; }
  // Requests that no command waits for (aio_read), until one does (aio_flush).
  Scope& in_background() { return in_background_; }

 private:
  Task<absl::Status> OpenTarget(std::string name, TargetOptions options);

  const Program& program_;
  Host& host_;
  std::optional<Target> target_;
  std::string name_;
  TargetOptions options_;
  bool quit_ = false;
  bool has_flushed_ = true;  // the last time, if it was to
  std::string unguarded_;    // why requests of this image were refused whose place nobody knows
  Scope in_background_;
};

// A command of qemu-io.
struct IoCommand {
  const char* name = nullptr;
  const char* alias = nullptr;  // one letter for the fingers
  int min_arguments = 0;
  int max_arguments = 0;      // -1: any number
  const char* synopsis = "";  // what follows the name
  const char* summary = "";
  bool needs_image = true;
  bool writes = false;
  // words[0] is the name. False when it failed.
  Task<bool> (*run)(Session& session, std::vector<std::string> words) = nullptr;
};

// "read [-qv] off len -- reads ...": for help and for wrong arguments.
std::string Usage(const IoCommand& command);

// In the order of their names.
std::vector<const IoCommand*> IoCommands();
const IoCommand* FindIoCommand(const std::string& name);

// Each is defined in the file of its name, aio_* in aio.cc; open and close in open.cc,
// abort and sigraise in signal.cc; break, remove_break, resume and wait_break in breakpoint.cc.
extern const IoCommand kAbort;
extern const IoCommand kAioFlush;
extern const IoCommand kAioRead;
extern const IoCommand kAioWrite;
extern const IoCommand kAlloc;
extern const IoCommand kBreak;
extern const IoCommand kClose;
extern const IoCommand kDiscard;
extern const IoCommand kFlush;
extern const IoCommand kHelp;
extern const IoCommand kInfo;
extern const IoCommand kLength;
extern const IoCommand kMap;
extern const IoCommand kOpen;
extern const IoCommand kQuit;
extern const IoCommand kRead;
extern const IoCommand kReadV;
extern const IoCommand kRemoveBreak;
extern const IoCommand kReopen;
extern const IoCommand kResume;
extern const IoCommand kSigraise;
extern const IoCommand kSleep;
extern const IoCommand kTruncate;
extern const IoCommand kWaitBreak;
extern const IoCommand kWrite;
extern const IoCommand kWriteV;

}  // namespace ringcow

#endif  // RINGCOW_CLI_IO_SESSION_H_
