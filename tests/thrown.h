#pragma once
/// What tests ask of errors.

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "engine/error/error.h"

namespace ft::test {

/// The Error that a call throws; where it throws none, one that says so, and the test has failed.
inline Error thrown(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorKind::internal, "nothing was thrown");
}

/// The whole text of the Error that a call throws, "was taken" where it throws none. Fails the test where it is a
/// bug's.
inline std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_NE(error.kind(), ErrorKind::internal) << error.what();
    return error.what();
  }
  return "was taken";
}

}  // namespace ft::test

/// Checks the kind of what `statement` throws and that its text has `part`.
#define EXPECT_ERROR(statement, wanted_kind, part)                                        \
  do {                                                                                    \
    const ::ft::Error error_ = ::ft::test::thrown([&] { statement; });                    \
    EXPECT_EQ(error_.kind(), ::ft::ErrorKind::wanted_kind) << error_.what();              \
    EXPECT_NE(std::string(error_.what()).find(part), std::string::npos) << error_.what(); \
  } while (false)
