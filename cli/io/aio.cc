#include "absl/status/status.h"
#include "cli/io/session.h"
#include "cli/io/transfer.h"

namespace ringcow {
namespace {

constexpr TransferGrammar kReadGrammar = {
    .many_lengths = true,
    .options = "CiP:qrv",
    .refused = "i",
};
constexpr TransferGrammar kWriteGrammar = {
    .write = true,
    .many_lengths = true,
    .options = "CfiP:qruz",
    .refused = "i",
};

// The command counts as carried out once its request is under way; how that ends is only said.
Task<absl::Status> InBackground(Session& session, Transfer transfer) {
  (void)co_await RunTransfer(session, transfer, transfer.write ? "aio_write" : "readv");
  co_return absl::OkStatus();
}

Task<bool> Start(Session& session, const IoCommand& command, const TransferGrammar& grammar,
                 std::vector<std::string> words) {
  const std::optional<Transfer> transfer = ParseTransfer(command, grammar, std::move(words));
  if (!transfer.has_value()) co_return false;
  session.in_background().Spawn(InBackground(session, *transfer));
  co_return true;
}

Task<bool> RunAioRead(Session& session, std::vector<std::string> words) {
  return Start(session, kAioRead, kReadGrammar, std::move(words));
}

Task<bool> RunAioWrite(Session& session, std::vector<std::string> words) {
  return Start(session, kAioWrite, kWriteGrammar, std::move(words));
}

Task<bool> RunAioFlush(Session& session, std::vector<std::string> /*words*/) {
  co_return (co_await session.in_background().Join()).ok();
}

}  // namespace

const IoCommand kAioRead = {
    .name = "aio_read",
    .min_arguments = 2,
    .max_arguments = -1,
    .synopsis = "[-Cqrv] [-P pattern] off len [len..]",
    .summary = "asynchronously reads a number of bytes",
    .run = RunAioRead,
};

const IoCommand kAioWrite = {
    .name = "aio_write",
    .min_arguments = 2,
    .max_arguments = -1,
    .synopsis = "[-Cfqruz] [-P pattern] off len [len..]",
    .summary = "asynchronously writes a number of bytes",
    .writes = true,
    .run = RunAioWrite,
};

const IoCommand kAioFlush = {
    .name = "aio_flush",
    .summary = "completes all outstanding aio requests",
    .run = RunAioFlush,
};

}  // namespace ringcow
