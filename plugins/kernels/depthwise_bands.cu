// Depthwise convolutions on GSPN2_NHWC8 by tensor cores, for many blocks.
//
// Eight adjacent results of a row are, of one channel and one row of the kernel, 16 values of a row
// of x times a banded matrix of 16 x 8: b[k][n] is the weight k - n, or 0. A unit is 16 patches of
// 7 x 8 results of a channel, whose places are free: a row of each of them is a row of the product.
// A warp walks the rows that reach its patches and adds each one, read once, to the up to seven
// rows of results that it is for. So it takes one m16n8k16 for 128 results and a row of the kernel,
// and the weights and sums of a unit stay in registers.
//
// A block has 16 channels of a tile of 4 x 4 patches of a map, or of four or 16 maps that have no
// more than 2 x 2 patches or one. Its values lie in shared memory channel by channel: they are
// turned round in registers, on the way in and on the way out.
//
// A value that is not finite makes NaN of products with the zeros beside the band. So results that
// are not finite are computed once more, one by one, from the values that are theirs.
#include <algorithm>
#include <cstdint>

#include "depthwise_bands.cuh"
#include "depthwise_tiles.h"
#include "launch.cuh"
#include "plan_arithmetic.h"

namespace gspn2 {

template <typename T, int kKernel, int kSide>
__global__ void __launch_bounds__(BandTile<kKernel, kSide>::kThreads,
                                  BandTile<kKernel, kSide>::kBlocks)
    depthwiseBandKernel(const __grid_constant__ DepthwiseBandParams p) {
  using Tile = BandTile<kKernel, kSide>;
  using Shared = typename Tile::Shared;
  constexpr int kTaps = Tile::kTaps;
  auto& shared = *dynamicShared<Shared>();
  const int thread = static_cast<int>(threadIdx.x);
  int lane;
  const int warp = split(thread, kWarpSize, lane);
  unsigned block = blockIdx.x;
  const int firstChannel = static_cast<int>(block % p.channelBlocks) * kBlockChannels;
  block /= p.channelBlocks;
  BandPlace place;
  place.left = static_cast<int>(block % p.across) * p.columns;
  block /= p.across;
  place.top = static_cast<int>(block % p.down) * p.rows;
  const int64_t firstItem = int64_t{block / p.down} * Tile::kItems;
  place.items = static_cast<int>(min(static_cast<int64_t>(Tile::kItems), p.items - firstItem));
  place.own = min(kBlockChannels, p.channels - firstChannel);
  place.rowValues = p.width * p.pitch;
  place.itemValues = p.height * place.rowValues;
  place.map = firstItem * place.itemValues + firstChannel;

  // Zeros everywhere: outside the map, and beside the bands.
  constexpr int kUnits = Tile::kUnits;
#pragma unroll
  for (int i = 0; i <= kUnits / Tile::kThreads; ++i) {
    const int at = thread + i * Tile::kThreads;
    if (i == kUnits / Tile::kThreads && at >= kUnits) continue;
    storeSharedVector(sharedAddress(shared.values + at * kUnitWords), make_uint4(0, 0, 0, 0));
  }
  if (thread < kBlockChannels * kKernel) {
    uint16_t (&row)[Tile::kPairs][2] = shared.weights[0][thread];
    row[0][0] = row[kKernel][1] = 0;
  }
  const T* const weight = static_cast<const T*>(p.weight) + int64_t{firstChannel} * kTaps;
  if (blockIdx.x < p.channelBlocks) {  // once is enough
    constexpr int kLineValues = 64;
    if (thread * kLineValues < place.own * kTaps) prefetch(weight + thread * kLineValues);
  }
  __syncthreads();
  waitForPreviousKernel();

  uint16_t weights[Tile::kWeights];
#pragma unroll
  for (int i = 0; i < Tile::kWeights; ++i) {
    const int at = thread + i * Tile::kThreads;
    weights[i] = at < place.own * kTaps ? bitsOf(weight[at]) : uint16_t{0};
  }
  T biases[Tile::kPasses] = {};
#pragma unroll
  for (int pass = 0; pass < Tile::kPasses; ++pass) {
    const int channel = warp + pass * Tile::kWarps;
    if (p.bias != nullptr && channel < place.own) {
      biases[pass] = static_cast<const T*>(p.bias)[firstChannel + channel];
    }
  }

  loadMaps<T, kKernel, kSide>(p, place, thread, shared.values);
#pragma unroll
  for (int i = 0; i < Tile::kWeights; ++i) {
    const int at = thread + i * Tile::kThreads;
    if (at >= place.own * kTaps) continue;
    int kx;
    uint16_t (&row)[Tile::kPairs][2] = shared.weights[0][split(at, kKernel, kx)];
    row[kx][1] = row[kx + 1][0] = weights[i];
  }
  __syncthreads();

#pragma unroll 1
  for (int pass = 0; pass < Tile::kPasses; ++pass) {
    const int channel = warp + pass * Tile::kWarps;
    if (channel >= place.own) break;
    const T bias = pass == 0 ? biases[0] : biases[Tile::kPasses - 1];
    convolveChannel<T, kKernel, kSide>(p, channel, bias, lane, shared);
  }
  __syncthreads();
  storeMaps<T, kKernel, kSide>(p, place, thread, shared.values);
}

namespace {

// The patches of a side of a tile.
int sideOf(const gspn2_depthwise_t& conv) {
  const int64_t longer = std::max(conv.h, conv.w);
  return longer <= kPatchRows ? 1 : longer <= 2 * kPatchRows ? 2 : 4;
}

struct BandGrid {
  int down, across, channelBlocks, items;
  int64_t blocks;
};

BandGrid gridOf(const gspn2_depthwise_t& conv) {
  const int side = sideOf(conv);
  const int columns = (side == 4 ? kPatchColumns : kPatchRows) * side;
  BandGrid grid{};
  grid.down = planCeilDiv(conv.h, int64_t{kPatchRows} * side);
  grid.across = planCeilDiv(conv.w, columns);
  grid.channelBlocks = planCeilDiv(conv.c, kBlockChannels);
  grid.items = kPatches / (side * side);
  grid.blocks =
      (conv.n + grid.items - 1) / grid.items * grid.down * grid.across * grid.channelBlocks;
  return grid;
}

template <typename T, int kKernel, int kSide>
cudaError_t launchTiles(const DepthwiseCall& call, const DeviceInfo& device) {
  using Tile = BandTile<kKernel, kSide>;
  const gspn2_depthwise_t& conv = call.conv;
  const BandGrid grid = gridOf(conv);
  DepthwiseBandParams params{};
  params.x = call.x;
  params.weight = call.weight;
  params.bias = call.bias;
  params.y = call.y;
  params.items = conv.n;
  setDepthwise(conv, &params);
  params.pitch = planRoundUp(conv.c, kOctet);
  params.down = grid.down;
  params.across = grid.across;
  // Tiles of one size, as nearly as may be.
  params.rows = planCeilDiv(conv.h, grid.down);
  params.columns = planCeilDiv(conv.w, grid.across);
  params.channelBlocks = grid.channelBlocks;
  return launchClusters(depthwiseBandKernel<T, kKernel, kSide>, static_cast<unsigned>(grid.blocks),
                        Tile::kThreads, 1, sizeof(typename Tile::Shared), call.stream, params,
                        device.computeCapability >= kClusterCapability);
}

template <typename T, int kKernel>
cudaError_t launchKernelOf(const DepthwiseCall& call, const DeviceInfo& device) {
  switch (sideOf(call.conv)) {
    case 1:
      return launchTiles<T, kKernel, 1>(call, device);
    case 2:
      return launchTiles<T, kKernel, 2>(call, device);
    default:
      return launchTiles<T, kKernel, 4>(call, device);
  }
}

template <typename T>
cudaError_t launch(const DepthwiseCall& call, const DeviceInfo& device) {
  return withDepthwiseWidth(call.conv.kernel, [&](auto width) {
    return launchKernelOf<T, decltype(width)::value>(call, device);
  });
}

}  // namespace

int64_t depthwiseBandBlocks(const gspn2_depthwise_t& conv) {
  constexpr int64_t kMostValues = INT32_MAX / 2;  // of a block's maps, rows past them included
  const BandGrid grid = gridOf(conv);
  const int64_t pitch = planRoundUp(conv.c, kOctet);
  const bool fits = conv.h * conv.w * pitch <= kMostValues / grid.items;
  return fits && grid.blocks <= kDepthwiseMaxBlocks ? grid.blocks : 0;
}

cudaError_t launchDepthwiseBands(const DepthwiseCall& call, const DeviceInfo& device) {
  return call.conv.dtype == GSPN2_FLOAT16 ? launch<__half>(call, device)
                                          : launch<__nv_bfloat16>(call, device);
}

}  // namespace gspn2
