// Depthwise convolutions of 3x3 on GSPN2_NHWC8, and the layer normalisation of their results.
//
// One launch takes them where that is faster (depthwise_norm_block.cuh), or else two do: a
// depthwise convolution, and a channel norm.
#include <algorithm>
#include <cstdint>

#include "channel_norm.h"
#include "depthwise.h"
#include "depthwise_norm.h"
#include "depthwise_norm_block.cuh"
#include "depthwise_tiles.h"
#include "launch.cuh"
#include "plan_arithmetic.h"
#include "tuning.h"

namespace gspn2 {
namespace {

constexpr int kVector = static_cast<int>(kNormVector);
constexpr int kClusterCapability = 90;  // the compute capability that brought clusters

// How one launch takes a call: the vectors that a block may have, and its tile. None is two
// launches.
struct ClusterPlan {
  int vectors, tile;
};
constexpr int kFewVectors = 5, kManyVectors = 10;
constexpr int kSmallTile = kDepthwiseSmallTile, kLargeTile = kDepthwiseLargeTile;

bool isPlan(const ClusterPlan& plan) {
  if (plan.vectors == 0) return plan.tile == 0;
  return (plan.vectors == kFewVectors || plan.vectors == kManyVectors) &&
         (plan.tile == kSmallTile || plan.tile == kLargeTile);
}

int blocksOf(const gspn2_depthwise_t& conv, int vectors) {
  return planCeilDiv(conv.c, vectors * kVector);
}

template <typename T, int kVectors, int kTile>
cudaError_t launchTiles(const DepthwiseNormCall& call) {
  using Tile = NormedTile<kVectors, kTile>;
  const gspn2_depthwise_t& conv = call.conv;
  DepthwiseNormParams params{};
  params.x = call.x;
  params.weight = call.weight;
  params.bias = call.bias;
  params.scale = call.scale;
  params.shift = call.shift;
  params.y = call.y;
  params.z = call.z;
  setDepthwiseTiles(conv, kTile, &params);
  params.own = planCeilDiv(conv.c / kVector, blocksOf(conv, kVectors)) * kVector;
  params.blocks = planCeilDiv(conv.c, params.own);
  params.share = 1.0F / static_cast<float>(conv.c);
  params.epsilon = call.epsilon;
  return launchClusters(depthwiseNormKernel<T, kVectors, kTile>,
                        static_cast<unsigned>(depthwiseTiles(conv, kTile) * params.blocks),
                        Tile::kThreads, static_cast<unsigned>(params.blocks),
                        Tile::template sharedBytes<T>(params.blocks), call.stream, params, true);
}

template <typename T>
cudaError_t launchPlan(const DepthwiseNormCall& call, const ClusterPlan& plan) {
  if (plan.vectors == kFewVectors) {
    return plan.tile == kSmallTile ? launchTiles<T, kFewVectors, kSmallTile>(call)
                                   : launchTiles<T, kFewVectors, kLargeTile>(call);
  }
  return plan.tile == kSmallTile ? launchTiles<T, kManyVectors, kSmallTile>(call)
                                 : launchTiles<T, kManyVectors, kLargeTile>(call);
}

cudaError_t launchTwo(const DepthwiseNormCall& call, const DeviceInfo& device) {
  const gspn2_depthwise_t& conv = call.conv;
  const cudaError_t status =
      launchDepthwise({conv, call.x, call.weight, call.bias, call.y, call.stream}, device);
  if (status != cudaSuccess) return status;
  ChannelNormCall norm{};
  norm.norm.n = conv.n;
  norm.norm.c = conv.c;
  norm.norm.h = conv.h;
  norm.norm.w = conv.w;
  norm.norm.dtype = conv.dtype;
  norm.norm.layout = GSPN2_NHWC8;
  norm.norm.epsilon = call.epsilon;
  norm.x = call.y;
  norm.scale = call.scale;
  norm.shift = call.shift;
  norm.y = call.z;
  norm.stream = call.stream;
  return launchChannelNorm(norm, device);
}

// Where large blocks leave half of the multiprocessors without one, as at batch 1, small ones do:
// what counts there is a launch less. Where blocks are many, their lanes and what they copy count:
// blocks whose lanes mostly have channels, of maps of more than a tile, or two launches (64 x 320 x
// 14 x 14 on an H200: 17.7 us, and 19.2 by one).
ClusterPlan findPlan(const DepthwiseNormCall& call, const DeviceInfo& device) {
  const gspn2_depthwise_t& conv = call.conv;
  if (device.computeCapability < kClusterCapability) return {};
  for (const void* parameter : {call.weight, call.bias, call.scale, call.shift}) {
    if (!isCopyAligned(parameter)) return {};  // null is
  }
  const auto fits = [&](int vectors) {
    const int blocks = blocksOf(conv, vectors);
    return blocks <= static_cast<int>(kPortableClusterBlocks) ||
           (blocks <= kLargeClusterBlocks && largeClusters(device) > 0);
  };
  if (int tuned[2]; readTuning("GSPN2_DEPTHWISE_NORM", 2, tuned)) {
    // One that there is not, or that does not fit, is left, and not counted.
    const ClusterPlan plan{tuned[0], tuned[1]};
    if (!isPlan(plan) || (plan.vectors != 0 && !fits(plan.vectors))) return {};
    countTuned();
    return plan;
  }
  const auto room = [&](int vectors) { return blocksOf(conv, vectors) * vectors * kVector; };
  ClusterPlan plan{kFewVectors, kSmallTile};
  const int64_t largeBlocks =
      depthwiseTiles(conv, depthwiseTile(conv)) * blocksOf(conv, kManyVectors);
  if (largeBlocks > device.multiprocessors / 2) {
    if (std::max(conv.h, conv.w) <= kLargeTile) return {};
    plan = {room(kManyVectors) <= room(kFewVectors) ? kManyVectors : kFewVectors, kLargeTile};
    if (4 * conv.c < 3 * room(plan.vectors)) return {};
  }
  if (!fits(plan.vectors)) plan.vectors = kManyVectors;
  return fits(plan.vectors) ? plan : ClusterPlan{};
}

}  // namespace

cudaError_t launchDepthwiseNorm(const DepthwiseNormCall& call, const DeviceInfo& device) {
  const ClusterPlan plan = findPlan(call, device);
  if (plan.vectors == 0) return launchTwo(call, device);
  return call.conv.dtype == GSPN2_FLOAT16 ? launchPlan<__half>(call, plan)
                                          : launchPlan<__nv_bfloat16>(call, plan);
}

}  // namespace gspn2
