// Layer normalisation over the channels of each position, and global response normalisation behind
// it: what stands around the propagations of a model, and what TensorRT fuses badly.
#ifndef GSPN2_KERNELS_CHANNEL_NORM_H_
#define GSPN2_KERNELS_CHANNEL_NORM_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "device.h"
#include "gspn2/kernels.h"

namespace gspn2 {

constexpr int64_t kNormVector = 8;  // channels side by side in GSPN2_NHWC8
// Of a map in that layout, with what lies behind the last channel.
constexpr int64_t rowsElements(int64_t n, int64_t c, int64_t h, int64_t w) {
  return n * ((c + kNormVector - 1) / kNormVector * kNormVector) * h * w;
}
// Channels of a position that one warp can hold; GSPN2_NCHW has no such limit.
constexpr int64_t kNormMaxChannels = 32 * 8 * kNormVector;
constexpr int kMostProxies = 2;               // channels that are projected, at most
constexpr int64_t kNormMaxTiles = INT32_MAX;  // blocks of a launch

struct ChannelNormCall {
  gspn2_norm_t norm;
  gspn2_projection_t projection;  // without one c is 0
  const void *x, *scale, *shift;
  const void *responseScale, *responseShift;  // null without a response normalisation
  void* y;
  void* workspace;
  cudaStream_t stream;
};

// Elements of x and of y.
int64_t channelNormElements(const gspn2_norm_t& norm);
// The most tiles, of positions of one batch item each, that a call is cut into.
int64_t channelNormTiles(const gspn2_norm_t& norm);
size_t channelNormWorkspace(const gspn2_norm_t& norm, bool hasResponse);
cudaError_t launchChannelNorm(const ChannelNormCall& call, const DeviceInfo& device);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_CHANNEL_NORM_H_
