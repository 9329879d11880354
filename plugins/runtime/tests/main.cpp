// runtime_tests --list    the names of the cases
// runtime_tests CASE...   runs them; exits with 1 when one fails
#include <cstdio>
#include <cstring>

#include "doubles.h"
#include "harness.h"

namespace gspn2 {
namespace runtime {
namespace tests {

namespace {

int runNamed(const char* name) {
  for (const Case& test : cases()) {
    if (std::strcmp(test.name, name) != 0) continue;
    try {
      test.run();
      std::printf("ok      %s\n", test.name);
      return 0;
    } catch (const std::exception& error) {
      std::printf("FAILED  %s: %s\n", test.name, error.what());
      return 1;
    }
  }
  std::printf("FAILED  no case is named %s\n", name);
  return 1;
}

}  // namespace

Platform*& testPlatform() {
  static Platform* platform = nullptr;
  return platform;
}

}  // namespace tests
}  // namespace runtime
}  // namespace gspn2

namespace gspn2 {
namespace runtime {

// engine.cpp asks for the real machine; these tests have none but their doubles.
Platform& realPlatform() {
  if (tests::testPlatform() == nullptr) throw Error(ErrorKind::kNoGpu, "the test has no machine");
  return *tests::testPlatform();
}

}  // namespace runtime
}  // namespace gspn2

int main(int argc, char** argv) {
  using namespace gspn2::runtime::tests;
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s --list | CASE...\n", argv[0]);
    return 2;
  }
  if (std::strcmp(argv[1], "--list") == 0) {
    for (const Case& test : cases()) std::printf("%s\n", test.name);
    return 0;
  }
  int failures = 0;
  for (int i = 1; i < argc; ++i) failures += runNamed(argv[i]);
  return failures == 0 ? 0 : 1;
}
