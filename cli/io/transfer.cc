#include "cli/io/transfer.h"

#include <getopt.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "cli/io/arguments.h"
#include "cli/io/report.h"
#include "cli/sizes.h"
#include "engine/errno_status.h"
#include "engine/status_macros.h"
#include "qcow2/format/limits.h"

namespace ringcow {
namespace {

constexpr uint8_t kDefaultPattern = 0xcd;
// What memory holds before a read: neither zeroes nor what writes leave by default.
constexpr uint8_t kUnread = 0xab;

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
    case 'b':
      return transfer.vm_state = true;
    case 'c':
      transfer.compressed = true;
      return true;
    case 'C':
      transfer.with_commas = true;
      return true;
    case 'f':
      transfer.durable = true;
      return true;
    case 'l':
      return (draft.verify_bytes = ParseIoSize(optarg)).has_value();
    case 'p':  // an option of old, without a meaning in QEMU either
      return true;
    case 'P':
      return (transfer.pattern = ParsePattern(optarg)).has_value();
    case 'q':
      transfer.quiet = true;
      return true;
    case 'n':
      return transfer.only_fast = true;
    case 'r':
      return transfer.registered = true;
    case 's':
      if (transfer.write) return !(transfer.source_file = optarg).empty();
      return (draft.verify_offset = ParseIoSize(optarg)).has_value();
    case 'u':
      return transfer.may_unmap = true;
    case 'z':
      return transfer.zeroes = true;
    case 'v':
      transfer.dump = true;
      return true;
    default:
      return false;
  }
}

bool TakeOptions(const IoCommand& command, const TransferGrammar& grammar, IoArguments& arguments,
                 Draft& draft) {
  while (const std::optional<int> key = arguments.Next()) {
    if (std::strchr(grammar.refused, *key) != nullptr) {
      absl::FPrintF(stderr, "%s: option '-%c' is not supported yet\n", command.name, *key);
      return false;
    }
    if (!TakeOption(*key, draft)) return false;
  }
  return !arguments.failed();
}

// What is to be written comes from one source, and the manners of writing go together.
bool HasOneSource(const TransferGrammar& grammar, const Transfer& transfer) {
  const int sources = static_cast<int>(transfer.zeroes) +
                      static_cast<int>(transfer.pattern.has_value()) +
                      static_cast<int>(!transfer.source_file.empty());
  const char* complaint = nullptr;
  if (transfer.only_fast && !transfer.zeroes) complaint = "-n requires -z to be specified";
  if (transfer.may_unmap && !transfer.zeroes) complaint = "-u requires -z to be specified";
  if (grammar.write && !grammar.many_lengths && sources > 1) {
    complaint = "Only one of -z, -P, and -s can be specified at the same time";
  }
  if (transfer.vm_state && transfer.compressed) {
    complaint = "-b and -c cannot be specified at the same time";
  }
  if (transfer.vm_state && transfer.zeroes) {
    complaint = "-b and -z cannot be specified at the same time";
  }
  if ((transfer.vm_state || transfer.compressed) && transfer.durable) {
    complaint = "-f and -b or -c cannot be specified at the same time";
  }
  if (complaint != nullptr) absl::PrintF("%s\n", complaint);
  return complaint == nullptr;
}

bool TakeLengths(const TransferGrammar& grammar, std::span<char* const> lengths,
                 Transfer& transfer) {
  for (const char* text : lengths) {
    const std::optional<uint64_t> length = ParseIoSize(text);
    if (!length.has_value()) return false;
    if (*length > kMaxTransferBytes && !transfer.only_fast) {
      if (grammar.many_lengths && !transfer.zeroes) {
        absl::PrintF("Argument '%s' exceeds maximum size %d\n", text, kMaxTransferBytes);
      } else {
        absl::PrintF("length cannot exceed %d%s, given %s\n", kMaxTransferBytes,
                     transfer.zeroes ? " without -n" : "", text);
      }
      return false;
    }
    transfer.bytes += *length;
  }
  if (transfer.bytes > kMaxTransferBytes && !transfer.only_fast) {
    absl::PrintF("The total number of bytes exceed the maximum size %d\n", kMaxTransferBytes);
    return false;
  }
  return true;
}

bool AreSectors(const Transfer& transfer) {
  const std::pair<const char*, uint64_t> values[] = {{"offset", transfer.offset},
                                                     {"count", transfer.bytes}};
  for (const auto& [name, value] : values) {
    if (value % kSectorBytes == 0) continue;
    absl::PrintF("%d is not a sector-aligned value for '%s'\n", value, name);
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

bool AllAre(uint8_t pattern, std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [pattern](std::byte byte) { return byte == static_cast<std::byte>(pattern); });
}

// Whether zeroes there, inside the disk, are a matter of metadata alone: what else a cluster holds
// must be zeroes already.
Task<absl::StatusOr<bool>> AreFastZeroes(const Target& target, const Transfer& transfer) {
  const Image* image = target.chain().image();
  if (image == nullptr || image->geometry().version() < 3) co_return false;
  const uint64_t unit = image->geometry().subcluster_bytes();
  for (const uint64_t edge : {transfer.offset, transfer.offset + transfer.bytes}) {
    if (IsAligned(edge, unit) || edge == image->size()) continue;
    const uint64_t begin = AlignDown(edge, unit);
    CO_ASSIGN_OR_RETURN(const bool are_zero,
                        co_await target.guest().AreKnownZero(
                            GuestOffset(begin), std::min(unit, image->size() - begin)));
    if (!are_zero) co_return false;
  }
  co_return true;
}

Task<absl::Status> CarryZeroes(const Target& target, const Transfer& transfer) {
  GuestDisk& disk = target.guest();
  if (transfer.only_fast && transfer.offset <= disk.size() &&
      transfer.bytes <= disk.size() - transfer.offset) {
    CO_ASSIGN_OR_RETURN(const bool are_fast, co_await AreFastZeroes(target, transfer));
    if (!are_fast) co_return ErrnoStatus(EOPNOTSUPP, "Zeroes of parts of clusters are written");
  }
  co_return co_await disk.WriteZeroes(
      GuestOffset(transfer.offset), transfer.bytes,
      transfer.may_unmap ? ZeroManner::kMayUnmap : ZeroManner::kKeepSpace);
}

Task<absl::Status> CarryVmState(const Target& target, const Transfer& transfer,
                                std::span<std::byte> memory) {
  Image* const image = target.chain().image();
  if (image == nullptr) co_return ErrnoStatus(ENOTSUP, "the image format has no VM state");
  co_return transfer.write ? co_await image->WriteVmState(transfer.offset, memory)
                           : co_await image->ReadVmState(transfer.offset, memory);
}

Task<absl::Status> Carry(const Target& target, const Transfer& transfer,
                         std::span<std::byte> memory) {
  if (transfer.vm_state) co_return co_await CarryVmState(target, transfer, memory);
  GuestDisk& disk = target.guest();
  if (!transfer.write) co_return co_await disk.Read(GuestOffset(transfer.offset), memory);
  if (transfer.zeroes) {
    CO_RETURN_IF_ERROR(co_await CarryZeroes(target, transfer));
  } else if (transfer.compressed) {
    CO_RETURN_IF_ERROR(co_await disk.WriteCompressed(GuestOffset(transfer.offset), memory));
  } else {
    CO_RETURN_IF_ERROR(co_await disk.Write(GuestOffset(transfer.offset), memory));
  }
  if (transfer.durable) CO_RETURN_IF_ERROR(co_await disk.Flush());
  co_return absl::OkStatus();
}

// Fills `bytes` with the contents of a file, again and again. False, and a complaint, when it has
// none.
bool FillFromFile(const std::string& path, std::span<std::byte> bytes) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             &std::fclose);
  if (file == nullptr) {
    absl::FPrintF(stderr, "%s: %s\n", path, std::strerror(errno));
    return false;
  }
  const size_t length = std::fread(bytes.data(), 1, bytes.size(), file.get());
  if (std::ferror(file.get()) != 0) {
    absl::FPrintF(stderr, "%s: %s\n", path, std::strerror(errno));
    return false;
  }
  if (length == 0 && !bytes.empty()) {
    absl::FPrintF(stderr, "%s: file is empty\n", path);
    return false;
  }
  for (size_t at = length; at < bytes.size(); ++at) bytes[at] = bytes[at - length];
  return true;
}

// What memory holds before the request.
bool Fill(const Transfer& transfer, std::span<std::byte> bytes) {
  if (!transfer.source_file.empty()) return FillFromFile(transfer.source_file, bytes);
  const uint8_t fill = transfer.write ? transfer.pattern.value_or(kDefaultPattern) : kUnread;
  std::fill(bytes.begin(), bytes.end(), static_cast<std::byte>(fill));
  return true;
}

// Carry, with its memory registered meanwhile.
Task<absl::Status> CarryRegistered(Session& session, const Transfer& transfer,
                                   std::span<std::byte> bytes) {
  const bool registers = transfer.registered && !bytes.empty();
  if (registers) CO_RETURN_IF_ERROR(session.rings().RegisterMemory(bytes));
  absl::Status status = co_await Carry(session.target(), transfer, bytes);
  if (registers) session.rings().UnregisterMemory(bytes);
  co_return status;
}

}  // namespace

std::optional<Transfer> ParseTransfer(const IoCommand& command, const TransferGrammar& grammar,
                                      std::vector<std::string> words) {
  IoArguments arguments(command, grammar.options, std::move(words));
  Draft draft;
  draft.transfer.write = grammar.write;
  if (!TakeOptions(command, grammar, arguments, draft)) return std::nullopt;
  const std::span<char* const> rest = arguments.rest();
  if (rest.size() < 2 || (rest.size() > 2 && !grammar.many_lengths)) {
    absl::PrintF("%s\n", Usage(command));
    return std::nullopt;
  }
  if (!HasOneSource(grammar, draft.transfer)) return std::nullopt;
  if (draft.transfer.zeroes && rest.size() > 2) {
    absl::PrintF("-z supports only a single length parameter\n");
    return std::nullopt;
  }
  const std::optional<uint64_t> offset = ParseIoSize(rest[0]);
  if (!offset.has_value()) return std::nullopt;
  draft.transfer.offset = *offset;
  if (!TakeLengths(grammar, rest.subspan(1), draft.transfer)) return std::nullopt;
  const bool takes_sectors = draft.transfer.compressed || draft.transfer.vm_state;
  if (takes_sectors && !AreSectors(draft.transfer)) return std::nullopt;
  if (!SettleVerification(command, draft)) return std::nullopt;
  return draft.transfer;
}

Task<bool> RunTransfer(Session& session, Transfer transfer, const char* failure_name) {
  absl::StatusOr<IoMemory> memory = IoMemory::Allocate(transfer.zeroes ? 0 : transfer.bytes);
  if (!memory.ok()) {
    absl::PrintF("%s failed: %s\n", failure_name, MessageOf(memory.status()));
    co_return false;
  }
  const std::span<std::byte> bytes = memory->span();
  if (!Fill(transfer, bytes)) co_return false;

  const auto begin = std::chrono::steady_clock::now();
  const absl::Status status = co_await CarryRegistered(session, transfer, bytes);
  const auto elapsed = std::chrono::steady_clock::now() - begin;
  if (!status.ok()) {
    absl::PrintF("%s failed: %s\n", failure_name, session.Explain(status));
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
