// Assertions for the tests of the emulator.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#define CHECK(condition)                                                  \
  do {                                                                    \
    if (!(condition)) {                                                   \
      std::fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, \
                   __func__, #condition);                                 \
      std::exit(1);                                                       \
    }                                                                     \
  } while (false)

// The message of the error that `action` throws, or nothing if it throws none.
template <typename Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  std::fprintf(stderr, "\"%s\" lacks \"%s\"\n", text.c_str(), part.c_str());
  return false;
}
