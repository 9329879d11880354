// Depthwise convolutions, with what follows them: the local half of a GSPN-2 block.
#ifndef GSPN2_KERNELS_DEPTHWISE_H_
#define GSPN2_KERNELS_DEPTHWISE_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "device.h"
#include "gspn2/kernels.h"

namespace gspn2 {

struct DepthwiseCall {
  gspn2_depthwise_t conv;
  const void *x, *weight, *bias;  // bias may be null
  void* y;
  cudaStream_t stream;
};

// The widths and heights of kernels that there are.
constexpr bool hasDepthwise(int kernel) { return kernel == 3 || kernel == 5 || kernel == 7; }
int64_t depthwiseElements(const gspn2_depthwise_t& conv);  // of x, and of y
// Of a launch: each has a tile of a batch item and some of its channels.
int64_t depthwiseBlocks(const gspn2_depthwise_t& conv);
constexpr int64_t kDepthwiseMaxBlocks = INT32_MAX;
cudaError_t launchDepthwise(const DepthwiseCall& call, const DeviceInfo& device);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_DEPTHWISE_H_
