#ifndef RINGCOW_ENGINE_TESTING_AWAIT_H_
#define RINGCOW_ENGINE_TESTING_AWAIT_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/chain.h"
#include "engine/disk.h"
#include "engine/task.h"

namespace ringcow {

// What a test needs to wait for I/O without being a coroutine itself:
//
//   absl::Status status = Perform(disk, disk.Write(offset, bytes));   // one request, to its end
//   scope.Spawn(Await(disk.Write(a, ...)));                       // several at a time
//   scope.Spawn(Await(chain));
//   absl::Status first_failure = loop.Run(scope.Join());

inline Task<absl::Status> Await(IoAwaiter io) { co_return co_await io; }
inline Task<absl::Status> Await(Chain& chain) { co_return co_await chain; }

// Stores the outcome; the task itself succeeds.
inline Task<absl::Status> AwaitInto(absl::Status& outcome, IoAwaiter io) {
  outcome = co_await io;
  co_return absl::OkStatus();
}

inline absl::Status Perform(Disk& disk, IoAwaiter io) { return disk.loop().Run(Await(io)); }
inline absl::Status Perform(Disk& disk, Chain& chain) { return disk.loop().Run(Await(chain)); }

// Random bytes, so that no two patterns are alike and none is all zeroes.
inline std::vector<std::byte> RandomBytes(std::mt19937_64& random, size_t length) {
  std::vector<std::byte> bytes(length);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(1 + random() % 255);
  return bytes;
}

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_TESTING_AWAIT_H_
