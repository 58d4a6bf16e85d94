#include "cache/write_order.h"

#include <algorithm>
#include <array>
#include <vector>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

class WriteOrderTest : public testing::Test {
 protected:
  WriteOrderTest() {
    for (size_t i = 0; i < tables_.size(); ++i) {
      tables_[i].offset = HostOffset(i * 4096);
      tables_[i].bytes = 4096;
      tables_[i].dirty_unit = 512;
    }
  }

  void Change(Table& table) {
    table.dirty |= 1;
    table.changed = order_.NextVersion();
  }
  // What a plan does when the table's write has succeeded.
  void Write(Table& table) {
    table.dirty = 0;
    order_.Written(table, table.changed);
  }
  void Sync() {
    order_.SyncStarted();
    order_.SyncSucceeded();
  }
  std::vector<std::vector<Table*>> Stages(std::vector<Table*> targets) {
    return order_.Stages(targets);
  }
  using StageList = std::vector<std::vector<Table*>>;

  WriteOrder order_;
  std::array<Table, 5> tables_;
  Table& a_ = tables_[0];
  Table& b_ = tables_[1];
  Table& c_ = tables_[2];
  Table& d_ = tables_[3];
};

TEST_F(WriteOrderTest, WithoutEdgesEverythingIsOneStageSortedByOffset) {
  for (Table* table : {&c_, &a_, &b_}) Change(*table);
  EXPECT_EQ(Stages({&c_, &a_, &b_}), (StageList{{&a_, &b_, &c_}}));
  EXPECT_EQ(Stages({}), StageList());
}

TEST_F(WriteOrderTest, AnEdgeSeparatesStagesAndBringsInWhatMustGoBefore) {
  for (Table* table : {&a_, &b_, &c_, &d_}) Change(*table);
  EXPECT_TRUE(order_.AddEdge(b_, a_));
  EXPECT_TRUE(order_.AddEdge(c_, b_));
  EXPECT_TRUE(order_.AddEdge(c_, a_));
  EXPECT_EQ(Stages({&c_}), (StageList{{&a_}, {&b_}, {&c_}}));
  EXPECT_EQ(Stages({&a_}), (StageList{{&a_}})) << "what waits is not drawn in";
  EXPECT_EQ(Stages({&d_, &c_}), (StageList{{&a_, &d_}, {&b_}, {&c_}}));
}

TEST_F(WriteOrderTest, AnEdgeToADurableTableCostsNothing) {
  EXPECT_TRUE(order_.AddEdge(b_, a_));
  EXPECT_TRUE(b_.after.empty());
  Change(a_);
  Write(a_);
  Sync();
  EXPECT_TRUE(order_.AddEdge(b_, a_));
  EXPECT_TRUE(b_.after.empty());
}

TEST_F(WriteOrderTest, WhatIsWrittenAndNotSyncedStillSeparatesStages) {
  Change(a_);
  ASSERT_TRUE(order_.AddEdge(b_, a_));
  Change(b_);
  Write(a_);
  EXPECT_EQ(Stages({&b_}), (StageList{{}, {&b_}}));
  EXPECT_FALSE(a_.is_settled());
  Sync();
  EXPECT_EQ(Stages({&b_}), (StageList{{&b_}}));
  EXPECT_TRUE(a_.is_settled());
}

// An edge covers the changes made before it: those made later wait for nobody.
TEST_F(WriteOrderTest, LaterChangesOfTheFirstTableDoNotDelayTheSecond) {
  Change(a_);
  ASSERT_TRUE(order_.AddEdge(b_, a_));
  Change(b_);
  Write(a_);
  Change(a_);
  Change(c_);
  ASSERT_TRUE(order_.AddEdge(a_, c_));
  EXPECT_EQ(Stages({&b_}), (StageList{{}, {&b_}}));
  Sync();
  EXPECT_EQ(Stages({&b_}), (StageList{{&b_}}));
  EXPECT_EQ(Stages({&a_}), (StageList{{&c_}, {&a_}}));
}

TEST_F(WriteOrderTest, ACircleIsRefusedUntilItsEdgesAreSatisfied) {
  Change(a_);
  ASSERT_TRUE(order_.AddEdge(b_, a_));
  Change(b_);
  ASSERT_TRUE(order_.AddEdge(c_, b_));
  Change(c_);
  EXPECT_FALSE(order_.AddEdge(a_, c_));
  EXPECT_FALSE(order_.AddEdge(a_, b_));
  EXPECT_TRUE(a_.after.empty()) << "what is refused leaves no trace";

  Write(a_);
  EXPECT_FALSE(order_.AddEdge(a_, b_)) << "written is not durable";
  Sync();
  EXPECT_TRUE(order_.AddEdge(a_, b_));
  Change(a_);
  EXPECT_EQ(Stages({&c_, &a_}), (StageList{{&b_}, {&a_, &c_}}));
}

TEST_F(WriteOrderTest, ASyncCoversOnlyWhatWasWrittenBeforeItStarted) {
  Change(a_);
  Change(b_);
  order_.SyncStarted();
  order_.SyncSucceeded();
  EXPECT_LT(a_.durable, a_.changed);

  // A chain's members: its syncs are announced together and end one by one.
  order_.SyncStarted();
  order_.SyncStarted();
  Write(a_);
  order_.SyncSucceeded();
  EXPECT_EQ(a_.durable, a_.changed);
  Write(b_);
  EXPECT_LT(b_.durable, b_.changed);
  order_.SyncSucceeded();
  EXPECT_EQ(b_.durable, b_.changed);
}

TEST_F(WriteOrderTest, AFailedSyncMakesNothingDurableTheNextGoodOneDoes) {
  Change(a_);
  ASSERT_TRUE(order_.AddEdge(b_, a_));
  Change(b_);
  Write(a_);
  order_.SyncStarted();
  order_.SyncFailed();
  EXPECT_LT(a_.durable, a_.changed);
  EXPECT_EQ(Stages({&b_}), (StageList{{}, {&b_}}));
  Sync();
  EXPECT_EQ(a_.durable, a_.changed);
}

TEST_F(WriteOrderTest, AfterNextSyncWaitsForOneThatStartsLater) {
  order_.SyncStarted();
  order_.SyncStarted();  // a chain with two syncs is under way
  order_.AfterNextSync(a_);
  Change(a_);
  order_.SyncSucceeded();
  order_.SyncSucceeded();
  EXPECT_EQ(Stages({&a_}), (StageList{{}, {&a_}})) << "both had started before";

  order_.SyncStarted();
  order_.SyncFailed();
  EXPECT_EQ(Stages({&a_}), (StageList{{}, {&a_}})) << "the one that would have served failed";
  Sync();
  EXPECT_EQ(Stages({&a_}), (StageList{{&a_}}));
}

TEST_F(WriteOrderTest, AfterNextSyncAndEdgesCombine) {
  Change(a_);
  order_.AfterNextSync(a_);
  ASSERT_TRUE(order_.AddEdge(b_, a_));
  Change(b_);
  Change(c_);
  EXPECT_EQ(Stages({&a_, &b_, &c_}), (StageList{{&c_}, {&a_}, {&b_}}));
}

// Tables leave the cache when they are settled and their memory comes back for another one.
TEST_F(WriteOrderTest, EdgesToATableThatLeftTheCacheStaySatisfied) {
  Change(a_);
  ASSERT_TRUE(order_.AddEdge(b_, a_));
  Change(b_);
  Write(a_);
  Sync();
  ASSERT_TRUE(a_.is_settled());
  a_.offset = HostOffset(1 << 20);
  a_.changed = a_.written = a_.durable = order_.now();
  Change(a_);
  EXPECT_EQ(Stages({&b_}), (StageList{{&b_}}));
  EXPECT_TRUE(order_.AddEdge(a_, b_)) << "no circle";
}

// Each table of a layer waits for each of the layer before: as many paths as 4^40.
TEST_F(WriteOrderTest, ADenseGraphIsSearchedOnce) {
  constexpr size_t kLayers = 40;
  std::array<std::array<Table, 4>, kLayers> layers;
  for (auto& layer : layers) {
    for (Table& table : layer) Change(table);
  }
  for (size_t i = 1; i < kLayers; ++i) {
    for (Table& after : layers[i]) {
      for (Table& before : layers[i - 1]) ASSERT_TRUE(order_.AddEdge(after, before));
    }
  }
  ASSERT_TRUE(order_.AddEdge(a_, layers.back()[0]));
  EXPECT_FALSE(order_.AddEdge(layers[0][0], layers.back()[0]));
  EXPECT_EQ(Stages({&layers.back()[0]}).size(), kLayers);
}

}  // namespace
}  // namespace ringcow
