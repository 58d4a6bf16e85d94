#ifndef RINGCOW_ENGINE_TESTING_SANITIZED_H_
#define RINGCOW_ENGINE_TESTING_SANITIZED_H_

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <type_traits>
#include <vector>

namespace ringcow {

// Whether a sanitizer makes everything many times slower: tests that go through very many cases
// then take a part of them.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kIsSanitized = true;
#else
inline constexpr bool kIsSanitized = false;
#endif
#else
inline constexpr bool kIsSanitized = false;
#endif

// Of requests that fail one by one, every so many do.
inline constexpr uint64_t kFaultStride = kIsSanitized ? 17 : 1;

// Of cases that are mostly somebody else's work (QEMU's, the crash explorer's), every so many are
// tried.
inline constexpr size_t kCaseStride = kIsSanitized ? 4 : 1;

template <typename Cases>
auto SomeOf(const Cases& cases) {
  std::vector<std::decay_t<decltype(*std::begin(cases))>> some;
  size_t i = 0;
  for (const auto& a_case : cases) {
    if (i++ % kCaseStride == 0) some.push_back(a_case);
  }
  return some;
}

}  // namespace ringcow

#endif  // RINGCOW_ENGINE_TESTING_SANITIZED_H_
