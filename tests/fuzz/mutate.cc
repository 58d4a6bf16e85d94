#include "tests/fuzz/mutate.h"

#include <algorithm>
#include <array>

namespace ringcow {
namespace {

constexpr size_t kHeaderBytes = 112;
constexpr std::array<uint64_t, 8> kExtremes = {
    0, 1, 0xff, 0x7fffffff, 0xffffffff, 0x00ffffffffff0000, 0x7fffffffffffffff, ~uint64_t{0}};

// A place with something in it: of a few random ones, the first that is not in zeroes.
size_t Place(const std::vector<std::byte>& bytes, std::mt19937& random) {
  if (random() % 3 == 0) return random() % std::min(bytes.size(), kHeaderBytes);
  size_t place = 0;
  for (int tries = 0; tries < 64; ++tries) {
    place = random() % bytes.size();
    if (bytes[place] != std::byte{0}) break;
  }
  return place;
}

// Replaces the number of `width` bytes that `place` is in.
void SetNumber(std::vector<std::byte>& bytes, size_t place, size_t width, std::mt19937& random) {
  const size_t begin = place / width * width;
  if (begin + width > bytes.size()) return;
  uint64_t value = 0;
  for (size_t i = 0; i < width; ++i) value = value << 8 | static_cast<uint64_t>(bytes[begin + i]);
  switch (random() % 4) {
    case 0:
      value = kExtremes[random() % kExtremes.size()];
      break;
    case 1:
      value += random() % 3 - 1;
      break;
    case 2:
      value = uint64_t{random()} << random() % 33;
      break;
    default:
      // Often another cluster of the image.
      value = (value & ~uint64_t{0xffffff}) | (random() % bytes.size() & ~size_t{511});
  }
  for (size_t i = width; i-- > 0; value >>= 8) bytes[begin + i] = std::byte(value & 0xff);
}

}  // namespace

void Mutate(std::vector<std::byte>& bytes, std::mt19937& random) {
  for (uint32_t changes = 1 + random() % 3; changes > 0 && !bytes.empty(); --changes) {
    const size_t place = Place(bytes, random);
    switch (random() % 16) {
      case 0:
        bytes.resize(random() % (bytes.size() + 1));
        break;
      case 1: {
        // A piece of it somewhere else.
        const size_t length = std::min<size_t>(bytes.size() - place, 1 + random() % 512);
        const size_t to = random() % (bytes.size() - length + 1);
        const std::vector<std::byte> piece(bytes.begin() + static_cast<ptrdiff_t>(place),
                                           bytes.begin() + static_cast<ptrdiff_t>(place + length));
        std::copy(piece.begin(), piece.end(), bytes.begin() + static_cast<ptrdiff_t>(to));
        break;
      }
      case 2:
      case 3:
      case 4:
      case 5:
        bytes[place] ^= std::byte{1} << random() % 8;
        break;
      case 6:
      case 7:
        bytes[place] = static_cast<std::byte>(random());
        break;
      case 8:
        SetNumber(bytes, place, 2, random);
        break;
      case 9:
      case 10:
      case 11:
        SetNumber(bytes, place, 4, random);
        break;
      default:
        SetNumber(bytes, place, 8, random);
    }
  }
}

}  // namespace ringcow
