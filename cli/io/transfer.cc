#include "cli/io/transfer.h"

#include <getopt.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "cli/io/report.h"
#include "cli/sizes.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

// QEMU's bound of one request: whole sectors in a signed 32-bit number.
constexpr uint64_t kMaxTransferBytes = 0x7ffffe00;
constexpr uint8_t kDefaultPattern = 0xcd;
// What memory holds before a read: neither zeroes nor what writes leave by default.
constexpr uint8_t kUnread = 0xab;

std::optional<uint64_t> ParseOffset(const char* text) {
  const absl::StatusOr<uint64_t> value = ParseSize(text);
  if (value.ok() && *value <= INT64_MAX) return *value;
  if (absl::IsInvalidArgument(value.status())) {
    absl::PrintF("Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- %s\n",
                 text);
  } else {
    absl::PrintF("Parsing error: argument too large -- %s\n", text);
  }
  return std::nullopt;
}

std::optional<uint8_t> ParsePattern(const char* text) {
  const absl::StatusOr<uint64_t> value = ParseNumber(text);
  if (value.ok() && *value <= 0xff) return static_cast<uint8_t>(*value);
  absl::PrintF("%s is not a valid pattern byte\n", text);
  return std::nullopt;
}

// What the options say, before it is known whether it fits together.
struct Draft {
  Transfer transfer;
  std::optional<uint64_t> verify_offset;
  std::optional<uint64_t> verify_bytes;
};

bool TakeOption(int key, Draft& draft) {
  Transfer& transfer = draft.transfer;
  switch (key) {
    case 'C':
      transfer.with_commas = true;
      return true;
    case 'f':
      transfer.durable = true;
      return true;
    case 'l':
      return (draft.verify_bytes = ParseOffset(optarg)).has_value();
    case 'p':  // an option of old, without a meaning in QEMU either
      return true;
    case 'P':
      return (transfer.pattern = ParsePattern(optarg)).has_value();
    case 'q':
      transfer.quiet = true;
      return true;
    case 's':
      return (draft.verify_offset = ParseOffset(optarg)).has_value();
    case 'v':
      transfer.dump = true;
      return true;
    default:
      return false;
  }
}

bool TakeOptions(const IoCommand& command, const TransferGrammar& grammar,
                 std::span<char*> arguments, Draft& draft) {
  optind = 0;  // glibc: begin anew
  const auto count = static_cast<int>(arguments.size());
  for (int key = 0; (key = getopt(count, arguments.data(), grammar.options)) != -1;) {
    if (key == '?') {
      absl::PrintF("%s\n", Usage(command));
      return false;
    }
    if (std::strchr(grammar.refused, key) != nullptr) {
      absl::FPrintF(stderr, "%s: option '-%c' is not supported yet\n", command.name, key);
      return false;
    }
    if (!TakeOption(key, draft)) return false;
  }
  return true;
}

bool TakeLengths(const TransferGrammar& grammar, std::span<char*> lengths, Transfer& transfer) {
  for (const char* text : lengths) {
    const std::optional<uint64_t> length = ParseOffset(text);
    if (!length.has_value()) return false;
    if (*length > kMaxTransferBytes) {
      if (grammar.many_lengths) {
        absl::PrintF("Argument '%s' exceeds maximum size %d\n", text, kMaxTransferBytes);
      } else {
        absl::PrintF("length cannot exceed %d, given %s\n", kMaxTransferBytes, text);
      }
      return false;
    }
    transfer.bytes += *length;
  }
  if (transfer.bytes > kMaxTransferBytes) {
    absl::PrintF("The total number of bytes exceed the maximum size %d\n", kMaxTransferBytes);
    return false;
  }
  return true;
}

bool SettleVerification(const IoCommand& command, Draft& draft) {
  Transfer& transfer = draft.transfer;
  const bool has_range = draft.verify_offset.has_value() || draft.verify_bytes.has_value();
  if (has_range && !transfer.pattern.has_value()) {
    absl::PrintF("%s\n", Usage(command));
    return false;
  }
  transfer.verify_offset = draft.verify_offset.value_or(0);
  if (transfer.verify_offset <= transfer.bytes) {
    const uint64_t left = transfer.bytes - transfer.verify_offset;
    transfer.verify_bytes = draft.verify_bytes.value_or(left);
    if (transfer.verify_bytes <= left) return true;
  }
  absl::PrintF("pattern verification range exceeds end of read data\n");
  return false;
}

// What qemu-io says of a failure: the errno alone. That of a request beyond the end of the disk is
// EIO. Where no errno is behind a failure (unreadable metadata), our own sentence.
std::string Reason(const absl::Status& status) {
  const int error = ErrnoOf(status);
  // An EIO of the host's makes a status of code kUnknown.
  const bool of_the_host = error != EIO || absl::IsUnknown(status);
  if (of_the_host || absl::IsOutOfRange(status)) return std::strerror(error);
  return MessageOf(status);
}

bool AllAre(uint8_t pattern, std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [pattern](std::byte byte) { return byte == static_cast<std::byte>(pattern); });
}

Task<absl::Status> Carry(GuestDisk& disk, const Transfer& transfer, std::span<std::byte> memory) {
  if (!transfer.write) co_return co_await disk.Read(GuestOffset(transfer.offset), memory);
  CO_RETURN_IF_ERROR(co_await disk.Write(GuestOffset(transfer.offset), memory));
  if (transfer.durable) CO_RETURN_IF_ERROR(co_await disk.Flush());
  co_return absl::OkStatus();
}

}  // namespace

std::optional<Transfer> ParseTransfer(const IoCommand& command, const TransferGrammar& grammar,
                                      std::vector<std::string> words) {
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  Draft draft;
  draft.transfer.write = grammar.write;
  if (!TakeOptions(command, grammar, std::span(arguments).first(words.size()), draft)) {
    return std::nullopt;
  }
  const auto rest = std::span(arguments).first(words.size()).subspan(static_cast<size_t>(optind));
  if (rest.size() < 2 || (rest.size() > 2 && !grammar.many_lengths)) {
    absl::PrintF("%s\n", Usage(command));
    return std::nullopt;
  }
  const std::optional<uint64_t> offset = ParseOffset(rest[0]);
  if (!offset.has_value()) return std::nullopt;
  draft.transfer.offset = *offset;
  if (!TakeLengths(grammar, rest.subspan(1), draft.transfer)) return std::nullopt;
  if (!SettleVerification(command, draft)) return std::nullopt;
  return draft.transfer;
}

Task<bool> RunTransfer(Session& session, Transfer transfer, const char* failure_name) {
  absl::StatusOr<IoMemory> memory = IoMemory::Allocate(transfer.bytes);
  if (!memory.ok()) {
    absl::PrintF("%s failed: %s\n", failure_name, MessageOf(memory.status()));
    co_return false;
  }
  const std::span<std::byte> bytes = memory->span();
  const uint8_t fill = transfer.write ? transfer.pattern.value_or(kDefaultPattern) : kUnread;
  std::fill(bytes.begin(), bytes.end(), static_cast<std::byte>(fill));

  const auto begin = std::chrono::steady_clock::now();
  const absl::Status status = co_await Carry(session.disk(), transfer, bytes);
  const auto elapsed = std::chrono::steady_clock::now() - begin;
  if (!status.ok()) {
    absl::PrintF("%s failed: %s\n", failure_name, Reason(status));
    co_return false;
  }

  bool as_expected = true;
  if (!transfer.write && transfer.pattern.has_value() &&
      !AllAre(*transfer.pattern, bytes.subspan(transfer.verify_offset, transfer.verify_bytes))) {
    absl::PrintF("Pattern verification failed at offset %d, %d bytes\n",
                 transfer.offset + transfer.verify_offset, transfer.verify_bytes);
    as_expected = false;
  }
  if (transfer.quiet) co_return as_expected;
  if (transfer.dump) PrintDump(bytes, transfer.offset);
  PrintReport({.verb = transfer.write ? "wrote" : "read",
               .offset = transfer.offset,
               .bytes = transfer.bytes,
               .elapsed = elapsed},
              transfer.with_commas);
  co_return as_expected;
}

}  // namespace ringcow
