// Depthwise convolutions by tensor cores.
#ifndef GSPN2_KERNELS_DEPTHWISE_BANDS_H_
#define GSPN2_KERNELS_DEPTHWISE_BANDS_H_

#include "depthwise.h"

namespace gspn2 {

// Of a launch; 0 where maps are too large.
int64_t depthwiseBandBlocks(const gspn2_depthwise_t& conv);
// The results that a block has room for, whether there are such or not.
constexpr int64_t kDepthwiseBandRoom = 16 * 7 * 8 * 16;
cudaError_t launchDepthwiseBands(const DepthwiseCall& call, const DeviceInfo& device);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_DEPTHWISE_BANDS_H_
