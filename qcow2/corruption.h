#ifndef RINGCOW_QCOW2_CORRUPTION_H_
#define RINGCOW_QCOW2_CORRUPTION_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/disk.h"

namespace ringcow {

// What is wrong in an image itself, in QEMU's words, carried along in the status of the request
// that met it: whoever has the image open for writing marks it as corrupt.
struct Corruption {
  enum class Kind : uint8_t {
    kEntry,    // an entry that means nothing, whoever follows it
    kOverlap,  // a place that is something else's too: no harm before it is written to
  };

  Kind kind = Kind::kEntry;
  std::string what;
  std::string told_to_writers;  // the same where a request that changes something meets it
};

// Who is told of damage when it is met: once when the image is marked for it, and once of what it
// is not marked for, because no request fails or because the image is open for reading.
class CorruptionListener {
 public:
  enum class Image : uint8_t { kGoesOn, kIsMarked };

  virtual ~CorruptionListener() = default;
  // `what` as in Corruption.
  virtual void Met(absl::string_view what, Image image) = 0;
};

// `why`, which is not OK and does not name the disk, as an error of the image on it: kEntry.
absl::Status CorruptEntry(const Disk& disk, const absl::Status& why);
// `status`, one of those, where QEMU has another sentence for requests that change something.
absl::Status ToldToWriters(absl::Status status, absl::string_view sentence);
// QEMU's sentence about a write that would overwrite `what`.
std::string OverlapSentence(absl::string_view what);
// `status`, not OK, of a request that would do that: kOverlap.
absl::Status WithOverlap(absl::Status status, absl::string_view what);
// Whether that is the header.
bool IsInHeader(const absl::Status& status);
// `status`, not OK, of an allocation that was for `what`: that it would have been the header's
// cluster is said in a sentence of its own.
absl::Status WithAllocation(absl::Status status, absl::string_view what);
// `status`, not OK, of who would go to a place behind the end of the file: told from others by
// IsBehindFile.
absl::Status BehindFile(absl::Status status);
bool IsBehindFile(const absl::Status& status);
std::optional<Corruption> CorruptionOf(const absl::Status& status);
// `status` as it leaves the image: whoever lies on it is not corrupt for that.
absl::Status WithoutCorruption(absl::Status status);

// `status`, not OK, of who met what a CorruptionListener was told of; and the same again, in words
// that say no more than is left to be said.
absl::Status Told(absl::Status status);
bool WasTold(const absl::Status& status);
absl::Status Untold(absl::Status status);

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_CORRUPTION_H_
