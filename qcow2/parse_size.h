#ifndef RINGCOW_QCOW2_PARSE_SIZE_H_
#define RINGCOW_QCOW2_PARSE_SIZE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ringcow {

// A number of bytes as users write it: "4096", "64k", "1.5G", "0x10000". The suffixes b, k, M, G,
// T, P and E, in either case, multiply by powers of 1024; a fraction needs one; hexadecimal
// numbers have neither. InvalidArgument for what is no such number, OutOfRange for what has a
// minus sign and for 2^64 and more; without messages, since each caller words them differently.
absl::StatusOr<uint64_t> ParseSize(absl::string_view text);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_PARSE_SIZE_H_
