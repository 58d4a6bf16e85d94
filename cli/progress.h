#ifndef RINGCOW_CLI_PROGRESS_H_
#define RINGCOW_CLI_PROGRESS_H_

#include <cstdint>
#include <functional>

namespace ringcow {

// How far a long command has come, on stdout ("    (12.50/100%)", each over the one before), if its
// user asked for it (-p); else on stderr, whenever somebody sends SIGUSR1. One at a time.
class Progress {
 public:
  // Nothing is printed for less than `step` hundredths.
  explicit Progress(bool visible, double step = 1);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  void Begin() { Set(0); }
  // `done` of `all` is behind us.
  void Set(uint64_t done, uint64_t all);
  // Does that, as long as this exists.
  std::function<void(uint64_t done, uint64_t all)> Listener() {
    return [this](uint64_t done, uint64_t all) { Set(done, all); };
  }
  void Finish() { Set(100); }
  // Whatever happened: what follows begins a line of its own.
  void End() const;

 private:
  void Set(double percent);

  const bool visible_;
  const double step_;
  double printed_ = -1;
};

}  // namespace ringcow

#endif  // RINGCOW_CLI_PROGRESS_H_
