#include "qcow2/requests.h"

#include <vector>

#include "absl/status/status.h"
#include "engine/loop.h"
#include "engine/scope.h"
#include "gtest/gtest.h"

namespace ringcow {
namespace {

Task<absl::Status> Begin(Requests& requests, Loop& loop, int turns, std::vector<int>& log, int id) {
  Requests::Entry request(requests);
  co_await request;
  log.push_back(id);
  for (int i = 0; i < turns; ++i) co_await loop.Yield();
  log.push_back(-id);
  co_return absl::OkStatus();
}

Task<absl::Status> BeAlone(Requests& requests, Loop& loop, std::vector<int>& log, int id) {
  const Requests::Exclusive alone = co_await requests.BeginExclusive();
  log.push_back(id);
  for (int i = 0; i < 3; ++i) co_await loop.Yield();
  log.push_back(-id);
  co_return absl::OkStatus();
}

TEST(Requests, AnExclusiveOneLetsThoseUnderWayEndAndKeepsNewOnesOut) {
  Loop loop;
  Requests requests(loop);
  std::vector<int> log;
  Scope scope(loop);
  scope.Spawn(Begin(requests, loop, 5, log, 1));
  scope.Spawn(BeAlone(requests, loop, log, 10));
  scope.Spawn(BeAlone(requests, loop, log, 11));
  scope.Spawn(Begin(requests, loop, 1, log, 2));
  ASSERT_EQ(loop.Run(scope.Join()), absl::OkStatus());
  EXPECT_EQ(log, (std::vector<int>{1, -1, 10, -10, 11, -11, 2, -2}));
}

TEST(Requests, HaveEndedInTheOrderOfTheirBeginning) {
  Loop loop;
  Requests requests(loop);
  EXPECT_TRUE(requests.HaveEnded(requests.newest()));
  Requests::Entry second(requests);
  {
    Requests::Entry first(requests);
    ASSERT_TRUE(first.await_ready());
    const Requests::Ordinal one = requests.newest();
    ASSERT_TRUE(second.await_ready());
    EXPECT_FALSE(requests.HaveEnded(one));
  }
  EXPECT_TRUE(requests.HaveEnded(requests.newest() - 1));
  EXPECT_FALSE(requests.HaveEnded(requests.newest()));
}

}  // namespace
}  // namespace ringcow
