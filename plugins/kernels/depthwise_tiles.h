// What the kernels of depthwise convolutions share on the host: what they are told, and the square
// tiles into which two of them cut maps.
#ifndef GSPN2_KERNELS_DEPTHWISE_TILES_H_
#define GSPN2_KERNELS_DEPTHWISE_TILES_H_

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "gspn2/kernels.h"
#include "plan_arithmetic.h"

namespace gspn2 {

constexpr int kDepthwiseSmallTile = 7;  // where a map is no larger
constexpr int kDepthwiseLargeTile = 14;

inline int depthwiseTile(const gspn2_depthwise_t& conv) {
  return std::max(conv.h, conv.w) <= kDepthwiseSmallTile ? kDepthwiseSmallTile
                                                         : kDepthwiseLargeTile;
}

// Of all maps.
inline int64_t depthwiseTiles(const gspn2_depthwise_t& conv, int tile) {
  return conv.n * planCeilDiv(conv.h, tile) * planCeilDiv(conv.w, tile);
}

// What the parameters of every kernel say of the convolution.
template <typename Params>
void setDepthwise(const gspn2_depthwise_t& conv, Params* params) {
  params->height = static_cast<int>(conv.h);
  params->width = static_cast<int>(conv.w);
  params->channels = static_cast<int>(conv.c);
  params->silu = conv.activation == GSPN2_SILU;
  params->residual = conv.residual != 0;
}

// Of the kernels that cut maps into square tiles, of these too.
template <typename Params>
void setDepthwiseTiles(const gspn2_depthwise_t& conv, int tile, Params* params) {
  setDepthwise(conv, params);
  params->down = planCeilDiv(conv.h, tile);
  params->across = planCeilDiv(conv.w, tile);
}

// Calls `launch` with the kernel's width as a constant; checkDepthwise has refused every other.
template <typename Launch>
cudaError_t withDepthwiseWidth(int kernel, const Launch& launch) {
  switch (kernel) {
    case 3:
      return launch(std::integral_constant<int, 3>{});
    case 5:
      return launch(std::integral_constant<int, 5>{});
    default:
      return launch(std::integral_constant<int, 7>{});
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_DEPTHWISE_TILES_H_
