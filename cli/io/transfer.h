#ifndef RINGCOW_CLI_IO_TRANSFER_H_
#define RINGCOW_CLI_IO_TRANSFER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/io/session.h"
#include "engine/io_memory.h"
#include "engine/task.h"

namespace ringcow {

// A command that reads or writes, understood.
struct Transfer {
  bool write = false;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  std::optional<uint8_t> pattern;  // written, or to be found
  std::string source_file;         // -s: what is written instead, again and again
  bool zeroes = false;             // -z: WriteZeroes, with no bytes of its own
  bool may_unmap = false;          // -u
  bool only_fast = false;          // -n: fail rather than write bytes
  uint64_t verify_offset = 0;      // where in the bytes read the pattern is looked for
  uint64_t verify_bytes = 0;
  bool compressed = false;  // -c
  bool vm_state = false;    // -b: the state of a virtual machine, beside its disk
  bool durable = false;     // -f: flush before it counts as done
  bool registered = false;  // -r: memory that is registered with the rings
  bool quiet = false;
  bool dump = false;
  bool with_commas = false;
};

// How the words of a transfer command are to be read.
struct TransferGrammar {
  bool write = false;
  // Any number of lengths, which are added up.
  bool many_lengths = false;
  // Options as getopt takes them; those in `refused` are not carried out.
  const char* options = "";
  const char* refused = "";
};

// Nothing when they make no sense, which was said.
std::optional<Transfer> ParseTransfer(const IoCommand& command, const TransferGrammar& grammar,
                                      std::vector<std::string> words);

// Carries it out and says how it went. `failure_name` begins the message of a failure. False on a
// failed request and when the pattern was not found.
Task<bool> RunTransfer(Session& session, Transfer transfer, const char* failure_name);

}  // namespace ringcow

#endif  // RINGCOW_CLI_IO_TRANSFER_H_
