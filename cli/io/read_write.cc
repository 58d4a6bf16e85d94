#include "cli/io/session.h"
#include "cli/io/transfer.h"

namespace ringcow {
namespace {

constexpr TransferGrammar kReadGrammar = {
    .options = "bCl:pP:qrs:v",
};
constexpr TransferGrammar kWriteGrammar = {
    .write = true,
    .options = "bcCfnpP:qrs:uz",
};
constexpr TransferGrammar kReadVGrammar = {
    .many_lengths = true,
    .options = "CP:qrv",
};
constexpr TransferGrammar kWriteVGrammar = {
    .write = true,
    .many_lengths = true,
    .options = "CfP:qr",
};

Task<bool> ParseAndRun(Session& session, const IoCommand& command, const TransferGrammar& grammar,
                       std::vector<std::string> words) {
  const std::optional<Transfer> transfer = ParseTransfer(command, grammar, std::move(words));
  if (!transfer.has_value()) co_return false;
  co_return co_await RunTransfer(session, *transfer, command.name);
}

Task<bool> RunRead(Session& session, std::vector<std::string> words) {
  return ParseAndRun(session, kRead, kReadGrammar, std::move(words));
}

Task<bool> RunWrite(Session& session, std::vector<std::string> words) {
  return ParseAndRun(session, kWrite, kWriteGrammar, std::move(words));
}

Task<bool> RunReadV(Session& session, std::vector<std::string> words) {
  return ParseAndRun(session, kReadV, kReadVGrammar, std::move(words));
}

Task<bool> RunWriteV(Session& session, std::vector<std::string> words) {
  return ParseAndRun(session, kWriteV, kWriteVGrammar, std::move(words));
}

}  // namespace

const IoCommand kRead = {
    .name = "read",
    .alias = "r",
    .min_arguments = 2,
    .max_arguments = -1,
    .synopsis = "[-bCqrv] [-P pattern [-s off] [-l len]] off len",
    .summary = "reads a number of bytes at a specified offset",
    .run = RunRead,
};

const IoCommand kWrite = {
    .name = "write",
    .alias = "w",
    .min_arguments = 2,
    .max_arguments = -1,
    .synopsis = "[-bcCfnqruz] [-P pattern | -s source_file] off len",
    .summary = "writes a number of bytes at a specified offset",
    .writes = true,
    .run = RunWrite,
};

const IoCommand kReadV = {
    .name = "readv",
    .min_arguments = 2,
    .max_arguments = -1,
    .synopsis = "[-Cqrv] [-P pattern] off len [len..]",
    .summary = "reads a number of bytes at a specified offset",
    .run = RunReadV,
};

const IoCommand kWriteV = {
    .name = "writev",
    .min_arguments = 2,
    .max_arguments = -1,
    .synopsis = "[-Cfqr] [-P pattern] off len [len..]",
    .summary = "writes a number of bytes at a specified offset",
    .writes = true,
    .run = RunWriteV,
};

}  // namespace ringcow
