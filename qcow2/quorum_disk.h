#ifndef RINGCOW_QCOW2_QUORUM_DISK_H_
#define RINGCOW_QCOW2_QUORUM_DISK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/aligned_buffer.h"
#include "engine/disk.h"
#include "engine/host_offset.h"
#include "engine/request.h"
#include "engine/task.h"
#include "qcow2/image_description.h"
#include "qcow2/stacked_disk.h"

namespace ringcow {

// Takes "vote-threshold" out, and options that only one value is carried out of. InvalidArgument in
// QEMU's words.
absl::StatusOr<size_t> TakeVoteThreshold(ImageDescription& options, size_t children);

// Several disks that hold the same: QEMU's quorum. What is read is what `threshold` of them agree
// on, the first of them deciding where others do as well. What changes is changed on all of them,
// and durable when it is on all: QEMU is content with `threshold` of them, which leaves the others
// behind without a word.
class QuorumDisk final : public StackedDisk {
 public:
  // `children` must outlive the disk, and be used by nobody else; at least `threshold`, which is
  // not 0. EIO where they are not of one size.
  static absl::StatusOr<std::unique_ptr<QuorumDisk>> Open(std::vector<Disk*> children,
                                                          size_t threshold);

 private:
  // What the children say of some bytes.
  struct Ballot {
    HostOffset offset;
    Content content;
    std::vector<AlignedBuffer> votes;
    std::vector<bool> is_valid;
  };

  QuorumDisk(std::vector<Disk*> children, size_t threshold, const Properties& properties);

  Task<int64_t> ResultOf(Request& request) override;
  Task<int64_t> Read(const Request& request);
  Task<int64_t> Change(const Request& request);
  Task<absl::Status> CastVote(size_t child, Ballot& ballot);
  // The one that has enough like it, or EIO.
  absl::StatusOr<std::span<const std::byte>> Winner(const Ballot& ballot) const;
  uint64_t LongestChild() const;

  const std::vector<Disk*> children_;
  const size_t threshold_;
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_QUORUM_DISK_H_
