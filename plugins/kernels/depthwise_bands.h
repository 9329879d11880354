// Depthwise convolutions by tensor cores.
#ifndef GSPN2_KERNELS_DEPTHWISE_BANDS_H_
#define GSPN2_KERNELS_DEPTHWISE_BANDS_H_

#include "depthwise.h"

namespace gspn2 {

// Of a launch, and the results that they have room for, whether there are such or not.
int64_t depthwiseBandBlocks(const gspn2_depthwise_t& conv);
constexpr int64_t kDepthwiseBandRoom = 16 * 7 * 8 * 16;  // of a block
cudaError_t launchDepthwiseBands(const DepthwiseCall& call, const DeviceInfo& device);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_DEPTHWISE_BANDS_H_
