#include <chrono>

#include "absl/strings/str_format.h"
#include "cli/io/arguments.h"
#include "cli/io/report.h"
#include "cli/io/session.h"

namespace ringcow {
namespace {

struct Request {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  bool quiet = false;
  bool with_commas = false;
};

std::optional<Request> Parse(std::vector<std::string> words) {
  IoArguments arguments(kDiscard, "Cq", std::move(words));
  Request request;
  while (const std::optional<int> key = arguments.Next()) {
    (*key == 'q' ? request.quiet : request.with_commas) = true;
  }
  if (arguments.failed()) return std::nullopt;
  const std::span<char* const> rest = arguments.rest();
  if (rest.size() != 2) {
    absl::PrintF("%s\n", Usage(kDiscard));
    return std::nullopt;
  }
  const std::optional<uint64_t> offset = ParseIoSize(rest[0]);
  if (!offset.has_value()) return std::nullopt;
  const std::optional<uint64_t> bytes = ParseIoSize(rest[1]);
  if (!bytes.has_value()) return std::nullopt;
  if (*bytes > kMaxTransferBytes) {
    absl::PrintF("length cannot exceed %d, given %s\n", kMaxTransferBytes, rest[1]);
    return std::nullopt;
  }
  request.offset = *offset;
  request.bytes = *bytes;
  return request;
}

Task<bool> RunDiscard(Session& session, std::vector<std::string> words) {
  const std::optional<Request> request = Parse(std::move(words));
  if (!request.has_value()) co_return false;
  const auto begin = std::chrono::steady_clock::now();
  const absl::Status status =
      co_await session.disk().Discard(GuestOffset(request->offset), request->bytes);
  const auto elapsed = std::chrono::steady_clock::now() - begin;
  if (!status.ok()) {
    absl::PrintF("discard failed: %s\n", session.Explain(status));
    co_return false;
  }
  if (request->quiet) co_return true;
  PrintReport(
      {.verb = "discard", .offset = request->offset, .bytes = request->bytes, .elapsed = elapsed},
      request->with_commas);
  co_return true;
}

}  // namespace

const IoCommand kDiscard = {
    .name = "discard",
    .alias = "d",
    .min_arguments = 2,
    .max_arguments = -1,
    .synopsis = "[-Cq] off len",
    .summary = "discards a number of bytes at a specified offset",
    .writes = true,
    .run = RunDiscard,
};

}  // namespace ringcow
