#include "guard.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <mutex>

namespace gspn2 {
namespace plugin {
namespace {

constexpr size_t kMessageBytes = 768;
constexpr size_t kTextBytes = kMessageBytes + 128;

std::mutex gLastMutex;
char gLast[kTextBytes] = "";

void keep(const char* text) noexcept {
  try {
    const std::lock_guard<std::mutex> lock(gLastMutex);
    std::snprintf(gLast, kTextBytes, "%s", text);
  } catch (...) {
    // Without the lock there is nothing safe to do; the message is logged all the same.
  }
}

std::atomic<nvinfer1::ILogger*> gLogger{nullptr};

#if GSPN2_TRT_LOADS_LIBRARIES
std::atomic<nvinfer1::ILoggerFinder*> gFinder{nullptr};

nvinfer1::ILogger* foundLogger() {
  nvinfer1::ILoggerFinder* finder = gFinder.load();
  return finder == nullptr ? nullptr : finder->findLogger();
}
#else
nvinfer1::ILogger* foundLogger() { return nullptr; }
#endif

}  // namespace

void fail(const char* format, ...) {
  char message[kMessageBytes];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof(message), format, arguments);
  va_end(arguments);
  throw PluginError(message);
}

void setLogger(nvinfer1::ILogger* logger) noexcept { gLogger.store(logger); }

#if GSPN2_TRT_LOADS_LIBRARIES
void setFinder(nvinfer1::ILoggerFinder* finder) noexcept { gFinder.store(finder); }
#endif

void logError(const char* where, const char* message) noexcept {
  char text[kTextBytes];
  std::snprintf(text, sizeof(text), "gspn2 plugin, %s: %s", where, message);
  keep(text);
  nvinfer1::ILogger* logger = gLogger.load();
  try {
    if (logger == nullptr) logger = foundLogger();
  } catch (...) {
    logger = nullptr;  // the message still goes to stderr
  }
  if (logger != nullptr) {
    logger->log(nvinfer1::ILogger::Severity::kERROR, text);
  } else {
    std::fprintf(stderr, "%s\n", text);
  }
}

const char* lastError() noexcept {
  thread_local char copy[kTextBytes];
  try {
    const std::lock_guard<std::mutex> lock(gLastMutex);
    std::memcpy(copy, gLast, kTextBytes);
  } catch (...) {
    copy[0] = '\0';
  }
  return copy;
}

}  // namespace plugin
}  // namespace gspn2
