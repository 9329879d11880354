#include "gspn2/runtime.hpp"

namespace gspn2 {
namespace {

std::string joined(const std::string& problem, const std::string& got, const std::string& expected,
                   const std::string& fix) {
  std::string text = problem;
  if (!got.empty()) text += "\n  got:      " + got;
  if (!expected.empty()) text += "\n  expected: " + expected;
  if (!fix.empty()) text += "\n  fix:      " + fix;
  return text;
}

}  // namespace

Error::Error(ErrorKind kind, std::string problem, std::string got, std::string expected,
             std::string fix)
    : std::runtime_error(joined(problem, got, expected, fix)),
      mKind(kind),
      mProblem(std::move(problem)),
      mGot(std::move(got)),
      mExpected(std::move(expected)),
      mFix(std::move(fix)) {}

Error::~Error() = default;

const char* errorKindName(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalidArgument:
      return "InvalidArgument";
    case ErrorKind::kFile:
      return "File";
    case ErrorKind::kManifest:
      return "Manifest";
    case ErrorKind::kAltered:
      return "Altered";
    case ErrorKind::kLibrary:
      return "Library";
    case ErrorKind::kVersion:
      return "Version";
    case ErrorKind::kNoGpu:
      return "NoGpu";
    case ErrorKind::kGpu:
      return "Gpu";
    case ErrorKind::kPlugin:
      return "Plugin";
    case ErrorKind::kEngine:
      return "Engine";
    case ErrorKind::kShape:
      return "Shape";
    case ErrorKind::kDtype:
      return "Dtype";
    case ErrorKind::kBinding:
      return "Binding";
    case ErrorKind::kExecution:
      return "Execution";
    case ErrorKind::kMemory:
      return "Memory";
  }
  return "unknown";
}

}  // namespace gspn2
