// Tiles of positions and channels, turned over in shared memory: threads read the channels of a
// position side by side, and write the positions of a channel side by side.
#include <algorithm>
#include <cstdint>

#include "launch.cuh"
#include "plan_arithmetic.h"
#include "planes.h"
#include "shared_memory.cuh"
#include "validate.h"

namespace gspn2 {
namespace {

constexpr int kTile = 32;  // positions, and channels, of a tile
constexpr int kLines = 8;  // of a tile that threads take at once
constexpr int kParts = 5;  // x, lam, w, u and d
constexpr int64_t kMaxBlocks = int64_t{1} << 30;

using Element = uint16_t;  // of either type

}  // namespace

// A tensor: `channels` of each position, and their planes.
struct PlanesPart {
  const Element* from;
  Element* to;
  int64_t batch;     // elements from an item to the next in `from`; in `to` they are dense
  int64_t channels;  // 0 where there is none
};

struct PlanesParams {
  PlanesPart parts[kParts];
  int64_t position;  // elements from a position to the next
  int64_t plane;     // positions of an item
  int64_t channels;  // of all parts
  int64_t channelTiles, positionTiles, tiles;
};

namespace {

struct PlanesTile {
  Element values[kTile][kTile + 2];  // an odd number of words to a position
};

// The part that the channel, counted over all of them, is of; turns it into that part's own.
__device__ __forceinline__ PlanesPart findPart(const PlanesParams& p, int64_t* channel) {
  PlanesPart part = p.parts[0];
#pragma unroll
  for (int i = 1; i < kParts; ++i) {
    if (*channel < part.channels) break;
    *channel -= part.channels;
    part = p.parts[i];
  }
  return part;
}

}  // namespace

__global__ void __launch_bounds__(kTile* kLines)
    layOutPlanesKernel(const __grid_constant__ PlanesParams p) {
  auto& tile = staticShared<PlanesTile>();
  const int within = static_cast<int>(threadIdx.x) % kTile;
  const int line = static_cast<int>(threadIdx.x) / kTile;
  for (int64_t i = blockIdx.x; i < p.tiles; i += gridDim.x) {
    const int64_t group = i / p.channelTiles;
    const int64_t firstChannel = (i - group * p.channelTiles) * kTile;
    const int64_t item = group / p.positionTiles;
    const int64_t firstPosition = (group - item * p.positionTiles) * kTile;
    if (firstChannel + within < p.channels) {
      int64_t channel = firstChannel + within;
      const PlanesPart part = findPart(p, &channel);
      const Element* const from = part.from + item * part.batch + channel;
      Element values[kTile / kLines] = {};
#pragma unroll
      for (int j = 0; j < kTile / kLines; ++j) {
        const int64_t position = firstPosition + line + j * kLines;
        if (position < p.plane) values[j] = from[position * p.position];
      }
#pragma unroll
      for (int j = 0; j < kTile / kLines; ++j) tile.values[line + j * kLines][within] = values[j];
    }
    __syncthreads();
    for (int j = line; j < kTile; j += kLines) {
      if (firstChannel + j >= p.channels || firstPosition + within >= p.plane) break;
      int64_t channel = firstChannel + j;
      const PlanesPart part = findPart(p, &channel);
      part.to[(item * part.channels + channel) * p.plane + firstPosition + within] =
          tile.values[within][j];
    }
    __syncthreads();
  }
}

namespace {

struct PartChannels {
  int64_t x, gates, w;
};

PartChannels channelsOf(const gspn2_problem_t& problem) {
  return {problem.c, kDirectionCount * problem.c, kDirectionCount * kNeighbours * problem.g};
}

size_t partBytes(const gspn2_problem_t& problem, int64_t channels) {
  return workspaceRoundUp(sizeof(Element) *
                          static_cast<size_t>(problem.n * channels * problem.h * problem.w));
}

}  // namespace

size_t planesBytes(const gspn2_problem_t& problem, const gspn2_strides_t& strides, bool hasD) {
  if (!isInRows(strides)) return 0;
  const PartChannels channels = channelsOf(problem);
  return partBytes(problem, channels.x) + partBytes(problem, channels.w) +
         (hasD ? 3 : 2) * partBytes(problem, channels.gates);
}

cudaError_t makePlanes(Prop2dCall* call) {
  if (!isInRows(call->strides)) return cudaSuccess;
  const gspn2_problem_t& problem = call->problem;
  const PartChannels channels = channelsOf(problem);
  PlanesParams params{};
  params.position = call->strides.position;
  params.plane = problem.h * problem.w;
  auto* target = static_cast<char*>(call->workspace);
  PlanesPart* next = params.parts;
  const auto add = [&](const void*& tensor, int64_t batch, int64_t count) {
    if (tensor == nullptr) return;
    *next++ = {static_cast<const Element*>(tensor), reinterpret_cast<Element*>(target), batch,
               count};
    tensor = target;
    target += partBytes(problem, count);
    params.channels += count;
  };
  add(call->lam, call->strides.gates, channels.gates);
  add(call->u, call->strides.gates, channels.gates);
  add(call->d, call->strides.gates, channels.gates);
  add(call->w, call->strides.w, channels.w);
  add(call->x, call->strides.x, channels.x);
  call->strides = {channels.x * params.plane, channels.gates * params.plane,
                   channels.w * params.plane, 1};
  call->workspace = target;
  params.channelTiles = (params.channels + kTile - 1) / kTile;
  params.positionTiles = (params.plane + kTile - 1) / kTile;
  params.tiles = problem.n * params.positionTiles * params.channelTiles;
  const auto blocks = static_cast<unsigned>(std::min(params.tiles, kMaxBlocks));
  return launchKernel(layOutPlanesKernel, blocks, kTile * kLines, 0, call->stream, params);
}

}  // namespace gspn2
