// Every override of a noexcept TensorRT method runs inside guarded(): what is thrown in it is
// logged and becomes the method's failure value, never std::terminate.
#ifndef GSPN2_TENSORRT_GUARD_H_
#define GSPN2_TENSORRT_GUARD_H_

#include <exception>
#include <stdexcept>
#include <utility>

#include "trt.h"

namespace gspn2 {
namespace plugin {

// What the plugin refuses, with what came and what was expected in its text.
class PluginError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

#if defined(__GNUC__)
#define GSPN2_PRINTF __attribute__((format(printf, 1, 2)))
#else
#define GSPN2_PRINTF
#endif
[[noreturn]] void fail(const char* format, ...) GSPN2_PRINTF;

// Where messages go: the logger given to initLibGspn2Plugins, else the one that TensorRT's finder
// names for the calling thread, else stderr.
void setLogger(nvinfer1::ILogger* logger) noexcept;
#if GSPN2_TRT_LOADS_LIBRARIES
void setFinder(nvinfer1::ILoggerFinder* finder) noexcept;
#endif
void logError(const char* where, const char* message) noexcept;

// The last message that went through logError(), on whatever thread; valid until this thread's next
// call. Empty before the first.
const char* lastError() noexcept;

template <typename Result, typename Body>
Result guarded(const char* where, Result failure, Body&& body) noexcept {
  try {
    return std::forward<Body>(body)();
  } catch (const std::exception& error) {
    logError(where, error.what());
  } catch (...) {
    logError(where, "an exception of an unknown type");
  }
  return failure;
}

// For methods that report by status: 0 when `body` returns, -1 when it throws.
template <typename Body>
int32_t guardedStatus(const char* where, Body&& body) noexcept {
  return guarded(where, int32_t{-1}, [&body] {
    body();
    return int32_t{0};
  });
}

}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_GUARD_H_
