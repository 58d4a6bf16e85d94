#include "engine/loop.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/mutex.h"
#include "engine/scope.h"
#include "engine/wait_list.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

using ::testing::ElementsAre;

using Log = std::vector<std::string>;

Task<absl::Status> LogTwice(Loop& loop, std::string name, Log& log) {
  log.push_back(name + "1");
  co_await loop.Yield();
  log.push_back(name + "2");
  co_return absl::OkStatus();
}

Task<absl::Status> RunTwo(Loop& loop, Log& log) {
  Scope scope(loop);
  scope.Spawn(LogTwice(loop, "a", log));
  scope.Spawn(LogTwice(loop, "b", log));
  log.emplace_back("spawned");
  co_return co_await scope.Join();
}

TEST(LoopTest, ResumesInTheOrderOfPosts) {
  Loop loop;
  Log log;
  EXPECT_TRUE(loop.Run(RunTwo(loop, log)).ok());
  EXPECT_THAT(log, ElementsAre("a1", "b1", "spawned", "a2", "b2"));
}

// Does nothing but to count: one request of it is always under way.
class FakeSource : public CompletionSource {
 public:
  explicit FakeSource(Loop& loop) : loop_(loop) { loop.AddSource(*this); }
  ~FakeSource() override { loop_.RemoveSource(*this); }

  auto Request() {
    struct Awaiter {
      FakeSource& source;
      bool await_ready() const { return false; }
      void await_suspend(std::coroutine_handle<> handle) const { source.waiter_ = handle; }
      void await_resume() const {}
    };
    return Awaiter{*this};
  }

  void Submit() override { log += 's'; }
  void Wait() override {
    log += 'w';
    completed_ = true;
  }
  void Reap() override {
    log += 'r';
    if (completed_ && waiter_) loop_.Post(std::exchange(waiter_, {}));
    completed_ = false;
  }
  size_t outstanding() const override { return waiter_ ? 1 : 0; }

  std::string log;

 private:
  Loop& loop_;
  std::coroutine_handle<> waiter_;
  bool completed_ = false;
};

Task<void> RequestThenYield(Loop& loop, FakeSource& source) {
  co_await source.Request();
  source.log += '|';
  co_await loop.Yield();
  source.log += '|';
}

// Handing over and sleeping are one call: on io_uring each would be a system call.
TEST(LoopTest, SubmitsOrWaitsOnceATurn) {
  Loop loop;
  FakeSource source(loop);
  loop.Run(RequestThenYield(loop, source));
  EXPECT_EQ(source.log, "rwr|rs|rs");
}

Task<absl::Status> FailAfter(Loop& loop, int turns, absl::Status status) {
  for (int i = 0; i < turns; ++i) co_await loop.Yield();
  co_return status;
}

Task<void> JoinTwice(Loop& loop) {
  Scope scope(loop);
  scope.Spawn(FailAfter(loop, 3, absl::AbortedError("late")));
  scope.Spawn(FailAfter(loop, 1, absl::DataLossError("early")));
  scope.Spawn(FailAfter(loop, 5, absl::OkStatus()));
  EXPECT_EQ(scope.running(), 3);
  EXPECT_EQ(co_await scope.Join(), absl::DataLossError("early"));
  EXPECT_EQ(scope.running(), 0);

  scope.Spawn(FailAfter(loop, 2, absl::OkStatus()));
  EXPECT_EQ(co_await scope.Join(), absl::OkStatus());
  EXPECT_EQ(co_await scope.Join(), absl::OkStatus());
}

TEST(ScopeTest, JoinWaitsForAllAndGivesTheFailureThatCameFirst) {
  Loop loop;
  loop.Run(JoinTwice(loop));
}

Task<void> AwaitAllOf(Loop& loop) {
  std::vector<Task<absl::Status>> tasks;
  tasks.push_back(FailAfter(loop, 2, absl::OkStatus()));
  tasks.push_back(FailAfter(loop, 0, absl::OutOfRangeError("at once")));
  EXPECT_EQ(co_await AllOf(loop, std::move(tasks)), absl::OutOfRangeError("at once"));
  EXPECT_EQ(co_await AllOf(loop, {}), absl::OkStatus());
}

TEST(ScopeTest, AllOf) {
  Loop loop;
  loop.Run(AwaitAllOf(loop));
}

TEST(ScopeDeathTest, MustBeJoined) {
  EXPECT_DEATH(
      {
        Loop loop;
        Scope scope(loop);
        scope.Spawn(FailAfter(loop, 1, absl::OkStatus()));
      },
      "joined");
}

Task<absl::Status> InTurn(Loop& loop, Mutex& mutex, std::string name, bool& inside, Log& log) {
  const Mutex::Guard guard = co_await mutex.Lock();
  EXPECT_FALSE(inside) << name;
  inside = true;
  log.push_back(name);
  for (int i = 0; i < 3; ++i) co_await loop.Yield();
  inside = false;
  co_return absl::OkStatus();
}

Task<absl::Status> LockByMany(Loop& loop, Log& log) {
  Mutex mutex(loop);
  bool inside = false;
  Scope scope(loop);
  for (const char* name : {"a", "b", "c"}) {
    scope.Spawn(InTurn(loop, mutex, name, inside, log));
  }
  co_await loop.Yield();
  scope.Spawn(InTurn(loop, mutex, "d", inside, log));
  EXPECT_TRUE((co_await scope.Join()).ok());
  co_return co_await InTurn(loop, mutex, "e", inside, log);
}

TEST(MutexTest, ExcludesAcrossSuspensionsFirstComeFirstServed) {
  Loop loop;
  Log log;
  EXPECT_TRUE(loop.Run(LockByMany(loop, log)).ok());
  EXPECT_THAT(log, ElementsAre("a", "b", "c", "d", "e"));
}

Task<absl::Status> HoldBriefly(Mutex& mutex, Log& log) {
  const Mutex::Guard guard = co_await mutex.Lock();
  log.emplace_back("held");
  co_return absl::OkStatus();
}

// Whoever waits for a lock that is held across a suspension gets through in one turn after that.
Task<absl::Status> LockBehindASlowHolder(Loop& loop, Log& log) {
  Mutex mutex(loop);
  Scope scope(loop);
  {
    const Mutex::Guard guard = co_await mutex.Lock();
    for (int i = 0; i < 3; ++i) scope.Spawn(HoldBriefly(mutex, log));
    co_await loop.Yield();
    log.emplace_back("released");
  }
  co_await loop.Yield();
  log.emplace_back("the next turn");
  co_return co_await scope.Join();
}

TEST(MutexTest, AQueueIsWorkedOffInATurn) {
  Loop loop;
  Log log;
  EXPECT_TRUE(loop.Run(LockBehindASlowHolder(loop, log)).ok());
  EXPECT_THAT(log, ElementsAre("released", "held", "held", "held", "the next turn"));
}

Task<absl::Status> AwaitValue(WaitList& list, const int& value, int wanted, std::string name,
                              Log& log) {
  while (value < wanted) co_await list.Wait();
  log.push_back(std::move(name));
  co_return absl::OkStatus();
}

Task<void> WakeStepByStep(Loop& loop, Log& log) {
  WaitList list(loop);
  int value = 0;
  Scope scope(loop);
  scope.Spawn(AwaitValue(list, value, 2, "two", log));
  scope.Spawn(AwaitValue(list, value, 1, "one", log));
  scope.Spawn(AwaitValue(list, value, 1, "uno", log));
  EXPECT_FALSE(list.empty());
  for (value = 1; value <= 2; ++value) {
    list.WakeAll();
    EXPECT_TRUE(list.empty());
    log.emplace_back("woken");  // nothing runs from within WakeAll
    co_await loop.Yield();
  }
  EXPECT_TRUE((co_await scope.Join()).ok());
}

TEST(WaitListTest, WakesAllInTheOrderOfWaiting) {
  Loop loop;
  Log log;
  loop.Run(WakeStepByStep(loop, log));
  EXPECT_THAT(log, ElementsAre("woken", "one", "uno", "woken", "two"));
}

}  // namespace
}  // namespace ringcow
