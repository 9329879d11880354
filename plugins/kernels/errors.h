// The thread-local message behind gspn2_last_error().
#ifndef GSPN2_KERNELS_ERRORS_H_
#define GSPN2_KERNELS_ERRORS_H_

#include <cuda_runtime_api.h>

#include "gspn2/kernels.h"

namespace gspn2 {

// Records a printf-style message for this thread and returns `status`.
__attribute__((format(printf, 2, 3))) gspn2_status_t fail(gspn2_status_t status, const char* format,
                                                          ...);

// Turns what CUDA said about `action` into a status; clears this library's last CUDA error.
gspn2_status_t checkCuda(cudaError_t error, const char* action);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_ERRORS_H_
