#include "errors.h"

#include <cstdarg>
#include <cstdio>

namespace gspn2 {
namespace {

constexpr size_t kMessageBytes = 512;
thread_local char gMessage[kMessageBytes] = "";

}  // namespace

gspn2_status_t fail(gspn2_status_t status, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(gMessage, kMessageBytes, format, arguments);
  va_end(arguments);
  return status;
}

gspn2_status_t checkCuda(cudaError_t error, const char* action) {
  if (error == cudaSuccess) return GSPN2_SUCCESS;
  cudaGetLastError();
  if (error == cudaErrorNoKernelImageForDevice) {
    return fail(GSPN2_UNSUPPORTED,
                "%s: this build has no code for this GPU; rebuild it with "
                "-DCMAKE_CUDA_ARCHITECTURES naming the GPU's architecture (%s)",
                action, cudaGetErrorString(error));
  }
  return fail(GSPN2_CUDA_ERROR, "%s: CUDA error %d, %s: %s", action, static_cast<int>(error),
              cudaGetErrorName(error), cudaGetErrorString(error));
}

}  // namespace gspn2

extern "C" const char* gspn2_last_error(void) { return gspn2::gMessage; }
