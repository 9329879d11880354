// Depthwise convolutions whose results are normalised over the channels of each position.
#ifndef GSPN2_KERNELS_DEPTHWISE_NORM_H_
#define GSPN2_KERNELS_DEPTHWISE_NORM_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "device.h"
#include "gspn2/kernels.h"

namespace gspn2 {

struct DepthwiseNormCall {
  gspn2_depthwise_t conv;
  float epsilon;
  const void *x, *weight, *bias;  // bias may be null
  const void *scale, *shift;
  void *y, *z;
  cudaStream_t stream;
};

constexpr int64_t kDepthwiseNormMaxPositions = (1 << 30) - 1;  // of all batch items
cudaError_t launchDepthwiseNorm(const DepthwiseNormCall& call, const DeviceInfo& device);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_DEPTHWISE_NORM_H_
