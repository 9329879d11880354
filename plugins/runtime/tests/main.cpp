// runtime_tests --list    the names of the cases
// runtime_tests CASE...   runs them; exits with 1 when one fails
#include <cstdio>
#include <cstring>

#include "harness.h"

namespace gspn2 {
namespace runtime {
namespace tests {

std::vector<Case>& cases() {
  static std::vector<Case> list;
  return list;
}

void checkRefused(ErrorKind kind, const std::function<void()>& body,
                  const std::vector<std::string>& parts) {
  try {
    body();
  } catch (const Error& error) {
    const std::string text = error.what();
    if (error.kind() != kind) {
      throw CheckFailed(std::string("refused as ") + errorKindName(error.kind()) + ", expected " +
                        errorKindName(kind) + ": " + text);
    }
    for (const std::string& part : parts) {
      if (text.find(part) == std::string::npos) {
        throw CheckFailed("\"" + text + "\" does not say \"" + part + "\"");
      }
    }
    return;
  }
  throw CheckFailed(std::string("nothing was refused; expected ") + errorKindName(kind));
}

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
}  // namespace tests
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
