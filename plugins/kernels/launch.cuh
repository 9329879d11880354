// Launches a kernel that needs neither a cluster nor any other attribute.
#ifndef GSPN2_KERNELS_LAUNCH_CUH_
#define GSPN2_KERNELS_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

namespace gspn2 {

// Blocks of `block` threads with `sharedBytes` of dynamic shared memory each.
template <typename... Parameters, typename... Arguments>
cudaError_t launchKernel(void (*kernel)(Parameters...), unsigned grid, unsigned block,
                         size_t sharedBytes, cudaStream_t stream, Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(grid);
  config.blockDim = dim3(block);
  config.dynamicSmemBytes = sharedBytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_LAUNCH_CUH_
