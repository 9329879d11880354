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

}  // namespace tests
}  // namespace runtime
}  // namespace gspn2
