#include "log.h"

#include <cstdio>
#include <deque>
#include <memory>
#include <mutex>

namespace gspn2 {
namespace runtime {
namespace {

constexpr size_t kKeptErrors = 4;

// Shared, so that a message on its way out keeps the sink that it started with alive.
struct SinkHolder {
  std::mutex mutex;
  std::shared_ptr<const LogSink> sink;
};

// Never destroyed: TensorRT logs while the process ends, too.
SinkHolder& holder() {
  static auto* const kInstance = new SinkHolder;
  return *kInstance;
}

std::deque<std::string>& errors() {
  thread_local std::deque<std::string> list;
  return list;
}

void print(LogLevel level, const std::string& message) {
  if (level > LogLevel::kWarning) return;
  std::fprintf(stderr, "gspn2: %s: %s\n", level == LogLevel::kError ? "error" : "warning",
               message.c_str());
}

}  // namespace

void log(LogLevel level, const std::string& message) noexcept {
  try {
    if (level == LogLevel::kError) {
      errors().push_back(message);
      if (errors().size() > kKeptErrors) errors().pop_front();
    }
    std::shared_ptr<const LogSink> sink;
    {
      const std::lock_guard<std::mutex> lock(holder().mutex);
      sink = holder().sink;
    }
    if (sink != nullptr) {
      (*sink)(level, message);
    } else {
      print(level, message);
    }
  } catch (...) {
    std::fputs("gspn2: a log sink threw\n", stderr);  // TensorRT calls this and cannot unwind
  }
}

std::string takeErrors() {
  std::string text;
  for (const std::string& message : errors()) {
    text += (text.empty() ? "" : "\n            ") + message;
  }
  errors().clear();
  return text.empty() ? "no message" : text;
}

}  // namespace runtime

void setLogSink(LogSink sink) {
  auto& holder = runtime::holder();
  const std::lock_guard<std::mutex> lock(holder.mutex);
  holder.sink = sink ? std::make_shared<const LogSink>(std::move(sink)) : nullptr;
}

}  // namespace gspn2
