#ifndef RINGCOW_CLI_GUESSED_RAW_H_
#define RINGCOW_CLI_GUESSED_RAW_H_

#include <memory>
#include <utility>

#include "absl/strings/string_view.h"
#include "cli/program.h"
#include "qcow2/guest_disk.h"

namespace ringcow {

// A raw image that nobody declared as one. A guest that could write the mark of another format into
// its first block would have the next program that guesses take it for that format, and follow a
// backing file name of the guest's choice into the host's files. Such writes are refused (EPERM).
class GuessedRaw final : public GuestDisk {
 public:
  explicit GuessedRaw(std::unique_ptr<GuestDisk> image) : image_(std::move(image)) {}

  uint64_t size() const override { return image_->size(); }
  Task<absl::Status> Read(GuestOffset offset, std::span<std::byte> into) override;
  Task<absl::Status> Write(GuestOffset offset, std::span<const std::byte> from) override;
  // Zeroes are nobody's mark.
  Task<absl::Status> WriteZeroes(GuestOffset offset, uint64_t length, ZeroManner manner) override {
    return image_->WriteZeroes(offset, length, manner);
  }
  Task<absl::Status> Discard(GuestOffset offset, uint64_t length) override {
    return image_->Discard(offset, length);
  }
  Task<absl::StatusOr<GuestExtent>> Find(GuestOffset offset, uint64_t length) override {
    return image_->Find(offset, length);
  }
  Task<absl::StatusOr<bool>> AreKnownZero(GuestOffset offset, uint64_t length) override {
    return image_->AreKnownZero(offset, length);
  }
  Task<absl::Status> Flush() override { return image_->Flush(); }
  Task<absl::Status> Close() override { return image_->Close(); }
  const DiskCounters& counters() const override { return image_->counters(); }
  void ResetCounters() override { image_->ResetCounters(); }

 private:
  const std::unique_ptr<GuestDisk> image_;
};

// Tells on stderr what GuessedRaw will refuse, and how to avoid it.
void WarnAboutGuessedRaw(absl::string_view file_name);

}  // namespace ringcow

#endif  // RINGCOW_CLI_GUESSED_RAW_H_
