#ifndef RINGCOW_TESTS_SUPPORT_SANITIZED_H_
#define RINGCOW_TESTS_SUPPORT_SANITIZED_H_

#include <cstdint>

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
inline constexpr uint64_t kFaultStride = kIsSanitized ? 11 : 1;

}  // namespace ringcow

#endif  // RINGCOW_TESTS_SUPPORT_SANITIZED_H_
