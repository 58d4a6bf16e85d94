#ifndef RINGCOW_ENGINE_STATUS_MACROS_H_
#define RINGCOW_ENGINE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// RETURN_IF_ERROR(expr), ASSIGN_OR_RETURN(lhs, expr): for plain functions.
// CO_RETURN_IF_ERROR(expr), CO_ASSIGN_OR_RETURN(lhs, expr): the same inside coroutines; `expr` may
// contain co_await. `lhs` may declare a variable. All of them evaluate `expr` once.

#define RINGCOW_CONCAT_INNER(a, b) a##b
#define RINGCOW_CONCAT(a, b) RINGCOW_CONCAT_INNER(a, b)

// A return keyword and a declaration cannot stand in parentheses.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define RINGCOW_RETURN_IF_ERROR_IMPL(return_keyword, expr)            \
  do {                                                                \
    if (absl::Status ringcow_status = (expr); !ringcow_status.ok()) { \
      return_keyword ringcow_status;                                  \
    }                                                                 \
  } while (false)

#define RINGCOW_ASSIGN_OR_RETURN_IMPL(return_keyword, result, lhs, expr) \
  auto result = (expr);                                                  \
  if (!result.ok()) return_keyword std::move(result).status();           \
  lhs = *std::move(result)
// NOLINTEND(bugprone-macro-parentheses)

#define RETURN_IF_ERROR(expr) RINGCOW_RETURN_IF_ERROR_IMPL(return, expr)
#define CO_RETURN_IF_ERROR(expr) RINGCOW_RETURN_IF_ERROR_IMPL(co_return, expr)
#define ASSIGN_OR_RETURN(lhs, expr) \
  RINGCOW_ASSIGN_OR_RETURN_IMPL(return, RINGCOW_CONCAT(ringcow_result_, __LINE__), lhs, expr)
#define CO_ASSIGN_OR_RETURN(lhs, expr) \
  RINGCOW_ASSIGN_OR_RETURN_IMPL(co_return, RINGCOW_CONCAT(ringcow_result_, __LINE__), lhs, expr)

#endif  // RINGCOW_ENGINE_STATUS_MACROS_H_
