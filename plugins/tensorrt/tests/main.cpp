// plugin_tests --list       the names of the cases
// plugin_tests --describe   each plugin: name, version, then its fields as NAME:TYPE
// plugin_tests CASE...      runs them; exits with 1 when one fails
#include <cstdio>
#include <cstring>
#include <exception>

#include "harness.h"
#include "layer.h"

namespace gspn2 {
namespace plugin {
namespace tests {

std::vector<Case>& cases() {
  static std::vector<Case> list;
  return list;
}

void checkRefused(const std::function<void()>& body, const std::vector<std::string>& parts) {
  try {
    body();
  } catch (const PluginError& error) {
    const std::string text = error.what();
    for (const std::string& part : parts) {
      if (text.find(part) == std::string::npos) {
        throw CheckFailed("\"" + text + "\" does not say \"" + part + "\"");
      }
    }
    return;
  }
  throw CheckFailed("nothing was refused; expected: " + (parts.empty() ? "" : parts[0]));
}

class LogCapture::Logger : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    if (severity == Severity::kERROR) mText += std::string(message) + "\n";
  }
  std::string mText;
};

LogCapture::LogCapture() : mLogger(new Logger) { setLogger(mLogger); }

LogCapture::~LogCapture() {
  setLogger(nullptr);
  delete mLogger;
}

std::string LogCapture::take() { return std::move(mLogger->mText); }

namespace {

int runCase(const Case& test) {
  try {
    test.run();
    std::printf("ok      %s\n", test.name);
    return 0;
  } catch (const CaseSkipped& reason) {
    std::printf("skipped %s: %s\n", test.name, reason.what());
    return 0;
  } catch (const std::exception& error) {
    std::printf("FAILED  %s: %s\n", test.name, error.what());
    return 1;
  }
}

int runNamed(const char* name) {
  for (const Case& test : cases()) {
    if (std::strcmp(test.name, name) == 0) return runCase(test);
  }
  std::printf("FAILED  no case is named %s\n", name);
  return 1;
}

void describe() {
  for (const Op op : kOps) {
    std::printf("%s %s", opName(op), kPluginVersion);
    const nvinfer1::PluginFieldCollection& fields = fieldNames(op);
    for (int32_t i = 0; i < fields.nbFields; ++i) {
      std::printf(" %s:%d", fields.fields[i].name, static_cast<int>(fields.fields[i].type));
    }
    std::printf("\n");
  }
}

void list() {
  for (const Case& test : cases()) std::printf("%s\n", test.name);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s --list | --describe | CASE...\n", argv[0]);
    return 2;
  }
  if (std::strcmp(argv[1], "--list") == 0) {
    list();
    return 0;
  }
  if (std::strcmp(argv[1], "--describe") == 0) {
    describe();
    return 0;
  }
  int failures = 0;
  for (int i = 1; i < argc; ++i) failures += runNamed(argv[i]);
  return failures == 0 ? 0 : 1;
}

}  // namespace tests
}  // namespace plugin
}  // namespace gspn2

int main(int argc, char** argv) { return gspn2::plugin::tests::main(argc, argv); }
