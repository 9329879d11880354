// A test program without a framework: cases register themselves, main() lists or runs them.
#ifndef GSPN2_RUNTIME_TESTS_HARNESS_H_
#define GSPN2_RUNTIME_TESTS_HARNESS_H_

#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "gspn2/runtime.hpp"

namespace gspn2 {
namespace runtime {
namespace tests {

struct Case {
  const char* name;
  void (*run)();
};

std::vector<Case>& cases();

struct Registration {
  Registration(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

#define GSPN2_TEST(name)                                \
  void name();                                          \
  const Registration kRegistration_##name(#name, name); \
  void name()

class CheckFailed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

#define CHECK(condition) \
  if (!(condition))      \
  throw CheckFailed(std::string(__FILE__ ":") + std::to_string(__LINE__) + ": " #condition)

#define CHECK_EQ(actual, expected) checkEqual(actual, expected, __FILE__ ":", __LINE__, #actual)

template <typename A, typename B>
void checkEqual(const A& actual, const B& expected, const char* file, int line, const char* what) {
  if (actual == expected) return;
  std::ostringstream text;
  text << file << line << ": " << what << " is " << actual << ", expected " << expected;
  throw CheckFailed(text.str());
}

// Runs `body`, which must throw an Error of that kind whose text holds every one of `parts`.
void checkRefused(ErrorKind kind, const std::function<void()>& body,
                  const std::vector<std::string>& parts);

}  // namespace tests
}  // namespace runtime
}  // namespace gspn2
#endif  // GSPN2_RUNTIME_TESTS_HARNESS_H_
