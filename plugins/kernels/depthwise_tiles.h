// The square tiles into which both kernels of depthwise convolutions cut maps: host code.
#ifndef GSPN2_KERNELS_DEPTHWISE_TILES_H_
#define GSPN2_KERNELS_DEPTHWISE_TILES_H_

#include <algorithm>
#include <cstdint>

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

// What the parameters of either kernel say of the convolution and its tiles.
template <typename Params>
void setDepthwiseTiles(const gspn2_depthwise_t& conv, int tile, Params* params) {
  params->height = static_cast<int>(conv.h);
  params->width = static_cast<int>(conv.w);
  params->channels = static_cast<int>(conv.c);
  params->down = planCeilDiv(conv.h, tile);
  params->across = planCeilDiv(conv.w, tile);
  params->silu = conv.activation == GSPN2_SILU;
  params->residual = conv.residual != 0;
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_DEPTHWISE_TILES_H_
