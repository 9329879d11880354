// Launches of kernels, by themselves or in clusters of blocks.
#ifndef GSPN2_KERNELS_LAUNCH_CUH_
#define GSPN2_KERNELS_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "device.h"
#include "tuning.h"

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

// What every kernel may have without asking, with 16 KiB of its own beside it.
constexpr size_t kSharedUnasked = 32768;

// Lets a kernel have `bytes` of dynamic shared memory. The limit, which is the function's and not
// the launch's, goes up to what there is and never down: another thread may be about to launch.
template <typename... Parameters>
cudaError_t allowShared(void (*kernel)(Parameters...), size_t bytes) {
  if (bytes <= kSharedUnasked) return cudaSuccess;
  cudaFuncAttributes attributes{};
  cudaError_t status = cudaFuncGetAttributes(&attributes, kernel);
  if (status != cudaSuccess) return status;
  const int wanted = static_cast<int>(bytes);
  if (wanted <= attributes.maxDynamicSharedSizeBytes) return cudaSuccess;
  int device = 0;
  int most = 0;
  status = cudaGetDevice(&device);
  if (status != cudaSuccess) return status;
  status = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (status != cudaSuccess) return status;
  most -= static_cast<int>(attributes.sharedSizeBytes);
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              std::max(wanted, most));
}

// Lets a kernel have clusters of `blocks` blocks, with `bytes` of dynamic shared memory each.
template <typename Parameters>
cudaError_t allowCluster(void (*kernel)(Parameters), unsigned blocks, size_t bytes) {
  const cudaError_t status = allowShared(kernel, bytes);
  if (status != cudaSuccess || blocks <= unsigned{kPortableClusterBlocks}) return status;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
}

inline cudaLaunchAttribute clusterAttribute(unsigned blocks) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {blocks, 1, 1};
  return attribute;
}

// How many such clusters the current device has at once.
template <typename Parameters>
cudaError_t maxActiveClusters(void (*kernel)(Parameters), unsigned block, unsigned clusterBlocks,
                              size_t sharedBytes, int* clusters) {
  const cudaError_t status = allowCluster(kernel, clusterBlocks, sharedBytes);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attribute = clusterAttribute(clusterBlocks);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(clusterBlocks);
  config.blockDim = dim3(block);
  config.dynamicSmemBytes = sharedBytes;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaOccupancyMaxActiveClusters(clusters, kernel, &config);
}

// How many blocks the current device has at once.
template <typename Parameters>
cudaError_t maxActiveBlocks(void (*kernel)(Parameters), unsigned block, size_t sharedBytes,
                            int* blocks) {
  int device = 0;
  int multiprocessors = 0;
  cudaError_t status = allowShared(kernel, sharedBytes);
  if (status == cudaSuccess) status = cudaGetDevice(&device);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  if (status == cudaSuccess) {
    status = cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, static_cast<int>(block),
                                                           sharedBytes);
  }
  *blocks *= multiprocessors;
  return status;
}

// Launches a kernel in clusters of `clusterBlocks` blocks, with as much shared memory as the device
// lends a block on request. A cluster of one block is none. A kernel that `overlaps` may start
// while the one before it on the stream ends: it waits for it by waitForPreviousKernel()
// (hopper.cuh).
template <typename Parameters>
cudaError_t launchClusters(void (*kernel)(Parameters), unsigned grid, unsigned block,
                           unsigned clusterBlocks, size_t sharedBytes, cudaStream_t stream,
                           const Parameters& parameters, bool overlaps = false) {
  const cudaError_t status = allowCluster(kernel, clusterBlocks, sharedBytes);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attributes[2]{};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(grid);
  config.blockDim = dim3(block);
  config.dynamicSmemBytes = sharedBytes;
  config.stream = stream;
  config.attrs = attributes;
  if (clusterBlocks > 1) attributes[config.numAttrs++] = clusterAttribute(clusterBlocks);
  int tuned[1];
  if (readTuning("GSPN2_OVERLAPS", 1, tuned)) overlaps = overlaps && tuned[0] != 0;
  if (overlaps) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
  }
  return cudaLaunchKernelEx(&config, kernel, parameters);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_LAUNCH_CUH_
