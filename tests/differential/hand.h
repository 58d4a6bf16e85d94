#ifndef RINGCOW_TESTS_DIFFERENTIAL_HAND_H_
#define RINGCOW_TESTS_DIFFERENTIAL_HAND_H_

#include <string>

#include "tests/differential/image_setup.h"
#include "tests/differential/step.h"

namespace ringcow {

// Who works with images: QEMU's tools, or this library. What fails, fails the test.
class Hand {
 public:
  virtual ~Hand() = default;

  virtual const char* name() const = 0;
  // A qcow2 image; `backing` is the path of its backing file, of the format that `format` names, or
  // empty.
  virtual void Create(const std::string& path, const CreateOptions& options,
                      const std::string& backing, const std::string& format) = 0;
  virtual void Do(const std::string& path, const Step& step) = 0;
};

class QemuHand final : public Hand {
 public:
  const char* name() const override { return "qemu"; }
  void Create(const std::string& path, const CreateOptions& options, const std::string& backing,
              const std::string& format) override;
  void Do(const std::string& path, const Step& step) override;
};

class RingcowHand final : public Hand {
 public:
  // The seed decides about caches, and the like, each time an image is opened.
  explicit RingcowHand(uint64_t seed) : random_(seed) {}

  const char* name() const override { return "ringcow"; }
  void Create(const std::string& path, const CreateOptions& options, const std::string& backing,
              const std::string& format) override;
  void Do(const std::string& path, const Step& step) override;

 private:
  std::mt19937_64 random_;
};

}  // namespace ringcow

#endif  // RINGCOW_TESTS_DIFFERENTIAL_HAND_H_
