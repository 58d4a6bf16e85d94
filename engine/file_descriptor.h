#ifndef RINGCOW_ENGINE_FILE_DESCRIPTOR_H_
#define RINGCOW_ENGINE_FILE_DESCRIPTOR_H_

#include <unistd.h>

#include <utility>

namespace ringcow {

// An open file descriptor that is closed at the end of its life; -1 when there is none.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  // Nothing depends on close's result: what must be durable was synced before.
  ~FileDescriptor() {
    if (fd_ >= 0) (void)close(fd_);
  }

  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_FILE_DESCRIPTOR_H_
