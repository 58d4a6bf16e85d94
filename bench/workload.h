#ifndef RINGCOW_BENCH_WORKLOAD_H_
#define RINGCOW_BENCH_WORKLOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "qcow2/format/units.h"

namespace ringcow {

inline constexpr uint64_t kBenchClusterBytes = 65536;  // of every image made here: QEMU's default

// One request of a guest.
struct GuestOp {
  enum class Kind : uint8_t { kRead, kWrite, kFlush };

  Kind kind = Kind::kWrite;
  GuestOffset offset;
  uint32_t length = 0;  // bytes; 0 for kFlush

  friend bool operator==(const GuestOp&, const GuestOp&) = default;
};

// Which guest requests are made, in which order, on which image. Everything about it is fixed, so
// that counters repeat exactly and the same requests can be given to another engine.
struct Workload {
  enum class Pattern : uint8_t {
    kSequential,
    // The i-th request is at (i * step) % image_bytes, which is what `qemu-img bench -S step` does;
    // see Step.
    kScattered,
    // What the installation of an operating system looks like from below: files of 4 KiB to 1 MiB
    // writes laid down sequentially, a few of them at the same time, between them small journal
    // writes with a flush.
    kInstallMix,
  };
  enum class Start : uint8_t {
    kFresh,      // nothing allocated
    kOverlay,    // nothing allocated, but a backing file (see BaseName) that is written throughout
    kSnapshot,   // every place written, then an internal snapshot taken, which shares all of it
    kPopulated,  // every place of the workload written before, caches warm
    kCold,       // the same, opened anew, with places so far apart that each has an L2 slice of
                 // its own
  };

  enum class Base : uint8_t { kRaw, kQcow2 };

  std::string name;
  Pattern pattern = Pattern::kSequential;
  Start start = Start::kFresh;
  Base base = Base::kRaw;    // of kOverlay: the backing file's format
  bool extended_l2 = false;  // the image has subclusters
  bool reads = false;
  uint32_t request_bytes = 4096;
  uint64_t spacing = kBenchClusterBytes;  // bytes between neighbouring places of kScattered
  uint64_t image_bytes = 0;               // a multiple of spacing and request_bytes
  uint64_t requests = 0;
  // 0: none. 1: each write is followed by a flush of its own, and its latency includes it. Else:
  // after so many requests all requests under way are waited for, then flushed, as qemu-img bench
  // does.
  uint32_t flush_every = 0;

  // Each place is written for the first time, so that every run needs an image of its own.
  bool allocates() const { return start != Start::kPopulated && start != Start::kCold; }
  // Each write has to bring along what it does not cover of its cluster.
  bool copies() const {
    return (start == Start::kOverlay || start == Start::kSnapshot) && !extended_l2;
  }
  uint64_t places() const { return image_bytes / spacing; }
};

// Bytes from one request to the next, before the wrap at the image's end. For kScattered an odd
// multiple of the spacing, near the golden section of the image: it shares no factor with the
// number of places (a power of two, see FullMatrix), so each is visited once before the first is
// again, and neighbours in time are far apart in space. Below 2 GiB, the most qemu-img accepts.
// 0 for kInstallMix, which no single step describes.
uint64_t Step(const Workload& workload);

// The workload's requests in order, at most workload.requests besides the flushes of kInstallMix.
// Those of flush_every are not in it.
std::vector<GuestOp> MakeOps(const Workload& workload);

// What the backing file of kOverlay is called. It lies beside the image.
std::string BaseName(Workload::Base base);

// The workload with another number of requests, its image grown where one that allocates would be
// too small to have a new place for each.
Workload WithRequests(Workload workload, uint64_t requests);

}  // namespace ringcow

#endif  // RINGCOW_BENCH_WORKLOAD_H_
