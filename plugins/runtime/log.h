// Messages of TensorRT and of the runtime: passed to the application's sink, and the errors of the
// calling thread kept for the exception that follows them.
#ifndef GSPN2_RUNTIME_LOG_H_
#define GSPN2_RUNTIME_LOG_H_

#include <string>

#include "gspn2/runtime.hpp"

namespace gspn2 {
namespace runtime {

void log(LogLevel level, const std::string& message) noexcept;

// The errors that this thread logged since the last call, at most the last few, in one line each.
std::string takeErrors();

}  // namespace runtime
}  // namespace gspn2
#endif  // GSPN2_RUNTIME_LOG_H_
