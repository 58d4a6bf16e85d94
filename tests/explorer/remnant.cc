#include "tests/explorer/remnant.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace ringcow {
namespace {

absl::string_view NameOf(Remnant::Kind kind) {
  switch (kind) {
    case Remnant::Kind::kNothing:
      return "lost";
    case Remnant::Kind::kAll:
      return "kept";
    case Remnant::Kind::kFirstSector:
      return "torn, first sector kept";
    case Remnant::Kind::kLastSector:
      return "torn, last sector kept";
    case Remnant::Kind::kEvenSectors:
      return "torn, even sectors kept";
    case Remnant::Kind::kOddSectors:
      return "torn, odd sectors kept";
    case Remnant::Kind::kSomeSectors:
      return "torn, sectors kept:";
  }
  return "?";
}

}  // namespace

bool Remnant::Reaches(uint64_t sector, uint64_t sectors) const {
  switch (kind) {
    case Kind::kNothing:
      return false;
    case Kind::kAll:
      return true;
    case Kind::kFirstSector:
      return sector == 0;
    case Kind::kLastSector:
      return sector == sectors - 1;
    case Kind::kEvenSectors:
      return sector % 2 == 0;
    case Kind::kOddSectors:
      return sector % 2 == 1;
    case Kind::kSomeSectors:
      return ((sample + sector * 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9 >> 63) != 0;
  }
  return false;
}

DiskImage StateOf(const CrashPoint& point, const Remnants& remnants) {
  DiskImage state = point.durable();
  for (size_t i = 0; i < remnants.size(); ++i) {
    const PendingChange& change = point.pending()[i];
    const Remnant& remnant = remnants[i];
    if (remnant.kind == Remnant::Kind::kAll) {
      change.ApplyTo(state);
    } else if (remnant.kind != Remnant::Kind::kNothing) {
      change.ApplyTornTo(state, [&](uint64_t n) { return remnant.Reaches(n, change.sectors()); });
    }
  }
  return state;
}

std::string Describe(const CrashPoint& point, const Remnants& remnants) {
  std::string text;
  for (size_t i = 0; i < remnants.size(); ++i) {
    const PendingChange& change = point.pending()[i];
    absl::StrAppend(&text, ToString(change.request()), ": ", NameOf(remnants[i].kind));
    if (remnants[i].kind == Remnant::Kind::kSomeSectors) {
      for (uint64_t n = 0; n < change.sectors(); ++n) {
        if (remnants[i].Reaches(n, change.sectors())) absl::StrAppend(&text, " ", n);
      }
    }
    absl::StrAppend(&text, change.applied() ? "\n" : " (under way)\n");
  }
  return text;
}

}  // namespace ringcow
