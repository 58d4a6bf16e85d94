#include "tests/explorer/operation.h"

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/invariant.h"
#include "engine/status_macros.h"

namespace ringcow {
namespace {

Task<absl::Status> RunWrite(Image& image, StampedGuest& guest, UnitRange range) {
  co_return co_await guest.Write(image, range.first, range.count);
}

// A compressed cluster replaces none, so those that are there go first.
Task<absl::Status> RunWriteCompressed(Image& image, StampedGuest& guest, UnitRange range) {
  const uint64_t cluster_units = image.geometry().cluster_bytes() / guest.unit_bytes();
  const uint64_t end = (range.first + range.count) / cluster_units * cluster_units;
  range.first = (range.first + cluster_units - 1) / cluster_units * cluster_units;
  if (range.first >= end) co_return absl::OkStatus();
  range.count = end - range.first;
  CO_RETURN_IF_ERROR(co_await kDiscard.run(image, guest, range));
  co_return co_await guest.WriteCompressed(image, range.first, range.count);
}

Task<absl::Status> WriteBytes(Image& image, uint64_t offset, uint64_t length) {
  const std::vector<std::byte> zeroes(length);
  co_return co_await image.Write(GuestOffset(offset), zeroes);
}

Task<absl::Status> RunWriteZeros(Image& image, StampedGuest& guest, UnitRange range) {
  const uint64_t unit = guest.unit_bytes();
  co_return co_await guest.Change(StampedGuest::Shows::kZeroes, range.first, range.count,
                                  WriteBytes(image, range.first * unit, range.count * unit));
}

Task<absl::Status> RunZeroKeep(Image& image, StampedGuest& guest, UnitRange range) {
  const uint64_t unit = guest.unit_bytes();
  co_return co_await guest.Change(StampedGuest::Shows::kZeroes, range.first, range.count,
                                  image.WriteZeroes(GuestOffset(range.first * unit),
                                                    range.count * unit, ZeroManner::kKeepSpace));
}

Task<absl::Status> RunZeroUnmap(Image& image, StampedGuest& guest, UnitRange range) {
  const uint64_t unit = guest.unit_bytes();
  co_return co_await guest.Change(StampedGuest::Shows::kZeroes, range.first, range.count,
                                  image.WriteZeroes(GuestOffset(range.first * unit),
                                                    range.count * unit, ZeroManner::kMayUnmap));
}

Task<absl::Status> RunDiscard(Image& image, StampedGuest& guest, UnitRange range) {
  const uint64_t unit = guest.unit_bytes();
  co_return co_await guest.Change(
      StampedGuest::Shows::kZeroesOrAsBefore, range.first, range.count,
      image.Discard(GuestOffset(range.first * unit), range.count * unit));
}

// The guest sees nothing of snapshots: they must not change what it reads. A snapshot's name says
// what it had done before.
Task<absl::Status> RunSnapshot(Image& image, StampedGuest& guest, UnitRange) {
  Snapshot snapshot;
  snapshot.name = absl::StrCat(guest.changes());
  co_return guest.Tell(co_await image.CreateSnapshot(std::move(snapshot)));
}

Task<absl::Status> RunApplySnapshot(Image& image, StampedGuest& guest, UnitRange) {
  const std::vector<Snapshot>& snapshots = image.snapshots();
  if (snapshots.empty()) co_return absl::OkStatus();
  const size_t index = guest.changes() % snapshots.size();
  uint64_t once = 0;
  RINGCOW_INVARIANT(absl::SimpleAtoi(snapshots[index].name, &once), "snapshots are named so");
  co_return co_await guest.Return(once, image.ApplySnapshot(index));
}

Task<absl::Status> RunEmpty(Image& image, StampedGuest& guest, UnitRange) {
  co_return co_await guest.Change(StampedGuest::Shows::kAsInTheBeginning, 0, guest.units(),
                                  image.Empty());
}

Task<absl::Status> RunDeleteSnapshot(Image& image, StampedGuest& guest, UnitRange) {
  const absl::Status status = co_await image.DeleteSnapshot(0);
  co_return absl::IsNotFound(status) ? absl::OkStatus() : guest.Tell(status);
}

// The guest sees nothing of it either. Each is longer than those before, so the L1 table grows.
Task<absl::Status> RunVmState(Image& image, StampedGuest& guest, UnitRange) {
  const uint64_t length = image.geometry().cluster_bytes() * 5 / 2;
  const uint64_t position = guest.changes() % 8 * image.geometry().bytes_per_l2_table();
  const std::vector<std::byte> state(length, static_cast<std::byte>(guest.changes() | 1));
  CO_RETURN_IF_ERROR(guest.Tell(co_await image.WriteVmState(position, state)));
  std::vector<std::byte> found(length);
  CO_RETURN_IF_ERROR(guest.Tell(co_await image.ReadVmState(position, found)));
  RINGCOW_INVARIANT(found == state, "the VM state reads as it was written");
  co_return absl::OkStatus();
}

Task<absl::Status> RunRead(Image& image, StampedGuest& guest, UnitRange range) {
  co_return co_await guest.Read(image, range.first, range.count);
}

Task<absl::Status> RunFlush(Image& image, StampedGuest& guest, UnitRange) {
  co_return co_await guest.Flush(image);
}

}  // namespace

const Operation kWrite = {"write", 4, RunWrite};
const Operation kWriteLarge = {"large", 64, RunWrite};
const Operation kWriteCompressed = {"compressed", 32, RunWriteCompressed};
const Operation kWriteZeros = {"zeros", 8, RunWriteZeros};
const Operation kZeroKeep = {"zero", 24, RunZeroKeep};
const Operation kZeroUnmap = {"unmap", 24, RunZeroUnmap};
const Operation kDiscard = {"discard", 32, RunDiscard};
const Operation kSnapshot = {"snapshot", 0, RunSnapshot};
const Operation kDeleteSnapshot = {"delete", 0, RunDeleteSnapshot};
const Operation kApplySnapshot = {"apply", 0, RunApplySnapshot};
const Operation kEmpty = {"empty", 0, RunEmpty};
const Operation kVmState = {"vmstate", 0, RunVmState};
const Operation kRead = {"read", 16, RunRead};
const Operation kFlush = {"flush", 0, RunFlush};

std::span<const Operation* const> AllOperations() {
  static const Operation* const operations[] = {
      &kWrite,   &kWriteLarge, &kWriteCompressed, &kWriteZeros,    &kZeroKeep, &kZeroUnmap,
      &kDiscard, &kSnapshot,   &kDeleteSnapshot,  &kApplySnapshot, &kEmpty,    &kVmState,
      &kRead,    &kFlush};
  return operations;
}

const Operation* FindOperation(absl::string_view name) {
  for (const Operation* operation : AllOperations()) {
    if (operation->name == name) return operation;
  }
  return nullptr;
}

}  // namespace ringcow
