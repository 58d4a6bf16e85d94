#include "qcow2/blkdebug/rules.h"

#include <optional>

#include "gtest/gtest.h"

namespace ringcow {
namespace {

// 0: the request is carried out.
int ErrorOf(DebugMachine& machine, DebugIo io = DebugIo::kRead, uint64_t offset = 0,
            uint64_t length = 512) {
  const std::optional<DebugFault> fault = machine.FaultOf(io, offset, length);
  return fault.has_value() ? fault->error : 0;
}

TEST(RulesTest, NothingFailsBeforeTheEvent) {
  DebugMachine machine({.inject_errors = {{.event = DebugEvent::kL2Load, .error = ENOSPC}}});
  EXPECT_EQ(ErrorOf(machine), 0);
  machine.Happened(DebugEvent::kL2Update);
  EXPECT_EQ(ErrorOf(machine), 0);
  machine.Happened(DebugEvent::kL2Load);
  EXPECT_EQ(ErrorOf(machine), ENOSPC);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kFlush, 0, 0), ENOSPC);
}

TEST(RulesTest, OnceIsOnceWhateverComes) {
  DebugMachine machine({.inject_errors = {{.event = DebugEvent::kL2Load, .once = true}}});
  machine.Happened(DebugEvent::kL2Load);
  EXPECT_EQ(ErrorOf(machine), EIO);
  EXPECT_EQ(ErrorOf(machine), 0);
  machine.Happened(DebugEvent::kL2Load);
  EXPECT_EQ(ErrorOf(machine), 0);
}

TEST(RulesTest, AStateIsThatBeforeTheEvent) {
  DebugMachine machine({.inject_errors = {{.event = DebugEvent::kWriteAio, .state = 2}},
                        .set_states = {{.event = DebugEvent::kWriteAio, .state = 1, .new_state = 2},
                                       {.event = DebugEvent::kFlushToDisk, .new_state = 1}}});
  machine.Happened(DebugEvent::kWriteAio);  // in state 1
  EXPECT_EQ(ErrorOf(machine, DebugIo::kWrite), 0);
  machine.Happened(DebugEvent::kFlushToDisk);
  machine.Happened(DebugEvent::kWriteAio);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kWrite), 0);
  machine.Happened(DebugEvent::kWriteAio);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kWrite), EIO);
}

TEST(RulesTest, TheFirstOfSeveralStatesCounts) {
  DebugMachine machine({.inject_errors = {{.event = DebugEvent::kReadAio, .state = 3}},
                        .set_states = {{.event = DebugEvent::kL2Load, .new_state = 3},
                                       {.event = DebugEvent::kL2Load, .new_state = 4}}});
  machine.Happened(DebugEvent::kL2Load);
  machine.Happened(DebugEvent::kReadAio);
  EXPECT_EQ(ErrorOf(machine), EIO);
}

TEST(RulesTest, OnlyWhatTouchesTheByteFails) {
  DebugMachine machine({.inject_errors = {{.event = DebugEvent::kNone, .offset = 1024}}});
  machine.Happened(DebugEvent::kNone);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kRead, 512, 512), 0);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kRead, 1025, 512), 0);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kFlush, 0, 0), 0);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kRead, 512, 513), EIO);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kRead, 1024, 1), EIO);
}

TEST(RulesTest, OnlyTheKindFails) {
  DebugMachine machine({.inject_errors = {{.event = DebugEvent::kNone, .io = DebugIo::kFlush}}});
  machine.Happened(DebugEvent::kNone);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kWrite), 0);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kFlush, 0, 0), EIO);
}

TEST(RulesTest, BlockStatusFailsOnlyByName) {
  DebugMachine machine({.inject_errors = {{.event = DebugEvent::kNone}}});
  machine.Happened(DebugEvent::kNone);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kDiscard), EIO);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kBlockStatus), 0);
}

TEST(RulesTest, NewErrorsEndThoseBefore) {
  DebugMachine machine({.inject_errors = {{.event = DebugEvent::kL2Load, .error = ENOSPC},
                                          {.event = DebugEvent::kReadAio, .io = DebugIo::kWrite}}});
  machine.Happened(DebugEvent::kL2Load);
  machine.Happened(DebugEvent::kReadAio);
  EXPECT_EQ(ErrorOf(machine), 0);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kWrite), EIO);
}

TEST(RulesTest, AnErrnoOfZeroLetsARequestThrough) {
  DebugMachine machine({.inject_errors = {{.event = DebugEvent::kNone, .offset = 0, .error = 0},
                                          {.event = DebugEvent::kNone}}});
  machine.Happened(DebugEvent::kNone);
  EXPECT_EQ(ErrorOf(machine), 0);
  EXPECT_EQ(ErrorOf(machine, DebugIo::kRead, 512), EIO);
}

}  // namespace
}  // namespace ringcow
