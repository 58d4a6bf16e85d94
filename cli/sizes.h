#ifndef RINGCOW_CLI_SIZES_H_
#define RINGCOW_CLI_SIZES_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qcow2/parse_size.h"

namespace ringcow {

// ParseSize for the command line: within [min, max], and `what` is named in the message
// ("Invalid image size specified: '64X'.").
absl::StatusOr<uint64_t> ParseSizeInRange(absl::string_view what, absl::string_view text,
                                          uint64_t min, uint64_t max);

// A decimal, octal (010) or hexadecimal number; negative ones wrap as strtoull does. Errors as
// ParseSize.
absl::StatusOr<uint64_t> ParseNumber(absl::string_view text);
// For the command line, like ParseSizeInRange.
absl::StatusOr<uint64_t> ParseNumberInRange(absl::string_view what, absl::string_view text,
                                            uint64_t min, uint64_t max);

// "1.31 MiB", in three digits, as qemu-img rounds it.
std::string RoughSize(uint64_t bytes);

// "34.821 MiB", "64 KiB", "0 bytes", as qemu-io prints it.
std::string PreciseSize(double bytes);

}  // namespace ringcow

#endif  // RINGCOW_CLI_SIZES_H_
