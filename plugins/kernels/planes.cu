// Tiles of positions and channels, turned over in shared memory. Memory sees accesses of 16 bytes
// on both sides: vectors of eight adjacent channels of a position, which lie side by side in the
// tensor, and vectors of eight adjacent positions of a channel, which lie side by side in its
// plane. Tensors and their positions are whole aligned vectors (gspn2_strides_t), so every part can
// be read so, wherever its channels begin; where planes are no whole vectors elements are written
// one by one.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "common.cuh"
#include "launch.cuh"
#include "plan_arithmetic.h"
#include "planes.h"
#include "shared_memory.cuh"
#include "validate.h"

namespace gspn2 {
namespace {

constexpr int kVector = 8;       // channels, or positions, of an access
constexpr int kPositions = 128;  // of a tile
constexpr int kVectors = 4;      // of a position that a tile has, each of which a warp writes
constexpr int kThreads = kVectors * kWarpSize;
constexpr int kLines = kThreads / kVectors;  // positions that threads read at once
constexpr int kReads = kPositions / kLines;  // of a thread, all under way at once
constexpr int kParts = 5;                    // x, lam, w, u and d

using Element = uint16_t;                  // of either type
using Words = AlignedVector<uint32_t, 4>;  // of a vector

}  // namespace

// Adjacent vectors of every position, with all channels of one part or more. All runs' vectors are
// counted through; `first` is the count ahead of the run, and that of all where there is no run.
struct PlanesRun {
  const Element* from;
  int64_t batch;  // elements from an item to the next
  int64_t first;
};

// The planes of adjacent channels, none where there is no part.
struct PlanesPart {
  Element* to;  // dense
  int64_t channels;
  int64_t first;  // channel, counted through the runs' vectors
};

struct PlanesParams {
  PlanesRun runs[kParts];
  PlanesPart parts[kParts];
  int64_t position;  // elements from a position to the next
  int64_t plane;     // positions of an item
  int64_t vectors;   // of a position
  unsigned vectorTiles, positionTiles;
};

namespace {

// Two more to a vector's line: threads that write the vectors of two positions meet eight different
// groups of banks, and so do, by spread(), threads that read along positions or every eighth one.
struct PlanesTile {
  Words vectors[kVectors][kPositions + 2];
};

__device__ __forceinline__ unsigned spread(unsigned position) {
  return position ^ (position / kVector % kVector);
}

// Where a tile begins.
struct PlanesPlace {
  int64_t item, position, vector;
};

__device__ __forceinline__ void readTile(const PlanesParams& p, const PlanesPlace& place,
                                         PlanesTile& tile) {
  const unsigned vector = threadIdx.x % kVectors;
  const unsigned line = threadIdx.x / kVectors;
  if (place.vector + vector >= p.vectors) return;  // what is here goes to no plane
  PlanesRun run = p.runs[0];
#pragma unroll
  for (int i = 1; i < kParts; ++i) {
    if (place.vector + vector >= p.runs[i].first) run = p.runs[i];
  }
  const Element* const from =
      run.from + place.item * run.batch + (place.vector + vector - run.first) * kVector;
  Words values[kReads] = {};
#pragma unroll
  for (int i = 0; i < kReads; ++i) {
    const int64_t position = place.position + line + i * kLines;
    if (position < p.plane) {
      values[i] = *reinterpret_cast<const Words*>(from + position * p.position);
    }
  }
#pragma unroll
  for (int i = 0; i < kReads; ++i) tile.vectors[vector][spread(line + i * kLines)] = values[i];
}

// Calls write(plane) for each plane that the channel, counted through the vectors, goes to: none
// between parts, several where parts overlap.
template <typename Write>
__device__ __forceinline__ void visitPlanes(const PlanesParams& p, const PlanesPlace& place,
                                            unsigned channel, const Write& write) {
#pragma unroll
  for (const PlanesPart& part : p.parts) {
    const int64_t own = place.vector * kVector - part.first + channel;
    if (static_cast<uint64_t>(own) < static_cast<uint64_t>(part.channels)) {
      write(part.to + (place.item * part.channels + own) * p.plane);
    }
  }
}

// A lane has two adjacent channels of eight adjacent positions: a word of each.
__device__ __forceinline__ void writeVectors(const PlanesParams& p, const PlanesPlace& place,
                                             const PlanesTile& tile) {
  constexpr int kStep = kWarpSize / 4 * kVector;  // positions that a warp takes at once
  const unsigned vector = threadIdx.x / kWarpSize;
  const unsigned octet = threadIdx.x % (kStep / kVector);
  const unsigned pair = threadIdx.x % kWarpSize / (kStep / kVector);
  Words values[2][kPositions / kStep];
#pragma unroll
  for (int i = 0; i < kPositions / kStep; ++i) {
#pragma unroll
    for (int j = 0; j < kVector; j += 2) {
      const unsigned at = i * kStep + octet * kVector + j;
      const uint32_t even = tile.vectors[vector][spread(at)].values[pair];
      const uint32_t odd = tile.vectors[vector][spread(at + 1)].values[pair];
      values[0][i].values[j / 2] = __byte_perm(even, odd, 0x5410);
      values[1][i].values[j / 2] = __byte_perm(even, odd, 0x7632);
    }
  }
  const int64_t position = place.position + octet * kVector;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const unsigned channel = vector * kVector + 2 * pair + half;
    visitPlanes(p, place, channel, [&](Element* plane) {
#pragma unroll
      for (int i = 0; i < kPositions / kStep; ++i) {
        if (position + i * kStep >= p.plane) continue;
        *reinterpret_cast<Words*>(plane + position + i * kStep) = values[half][i];
      }
    });
  }
}

// A lane has all channels of a position.
__device__ __forceinline__ void writeElements(const PlanesParams& p, const PlanesPlace& place,
                                              const PlanesTile& tile) {
  const unsigned vector = threadIdx.x / kWarpSize;
  const unsigned lane = threadIdx.x % kWarpSize;
  Words values[kPositions / kWarpSize];
#pragma unroll
  for (int i = 0; i < kPositions / kWarpSize; ++i) {
    values[i] = tile.vectors[vector][spread(lane + i * kWarpSize)];
  }
  const int64_t position = place.position + lane;
#pragma unroll
  for (int c = 0; c < kVector; ++c) {
    const unsigned channel = vector * kVector + c;
    visitPlanes(p, place, channel, [&](Element* plane) {
#pragma unroll
      for (int i = 0; i < kPositions / kWarpSize; ++i) {
        if (position + i * kWarpSize >= p.plane) continue;
        plane[position + i * kWarpSize] =
            static_cast<Element>(values[i].values[c / 2] >> (c % 2 * 16));
      }
    });
  }
}

}  // namespace

// kWhole: planes are whole vectors.
template <bool kWhole>
__global__ void __launch_bounds__(kThreads)
    layOutPlanesKernel(const __grid_constant__ PlanesParams p) {
  auto& tile = staticShared<PlanesTile>();
  const unsigned group = blockIdx.x / p.vectorTiles;
  const unsigned item = group / p.positionTiles;
  const PlanesPlace place{item, int64_t{group - item * p.positionTiles} * kPositions,
                          int64_t{blockIdx.x - group * p.vectorTiles} * kVectors};
  readTile(p, place, tile);
  __syncthreads();
  if constexpr (kWhole) {
    writeVectors(p, place, tile);
  } else {
    writeElements(p, place, tile);
  }
}

namespace {

int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

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

// A part that is to become planes.
struct Source {
  uintptr_t from;
  Element* to;
  int64_t batch, channels;
};

// The runs that hold the parts, which are in the order of their addresses: a vector of which
// several have channels is read once.
void planRuns(const Source* first, const Source* last, PlanesParams* params) {
  constexpr uintptr_t kBytes = kVector * sizeof(Element);
  PlanesRun* run = params->runs;
  PlanesPart* part = params->parts;
  uintptr_t end = 0;  // of the run so far
  for (const Source* source = first; source != last; ++source) {
    const uintptr_t start = source->from / kBytes * kBytes;
    if (source == first || start > end || source->batch != run[-1].batch) {
      *run++ = {reinterpret_cast<const Element*>(start), source->batch, params->vectors};
      end = start;
    }
    const auto runStart = reinterpret_cast<uintptr_t>(run[-1].from);
    const auto ahead = static_cast<int64_t>((source->from - runStart) / sizeof(Element));
    *part++ = {source->to, source->channels, run[-1].first * kVector + ahead};
    end = std::max(end, runStart + ceilDiv(ahead + source->channels, kVector) * kBytes);
    params->vectors = run[-1].first + static_cast<int64_t>((end - runStart) / kBytes);
  }
  for (; run != params->runs + kParts; ++run) run->first = params->vectors;
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
  Source sources[kParts];
  Source* end = sources;
  const auto add = [&](const void*& tensor, int64_t batch, int64_t count) {
    if (tensor == nullptr) return;
    *end++ = {reinterpret_cast<uintptr_t>(tensor), reinterpret_cast<Element*>(target), batch,
              count};
    tensor = target;
    target += partBytes(problem, count);
  };
  add(call->lam, call->strides.gates, channels.gates);
  add(call->u, call->strides.gates, channels.gates);
  add(call->d, call->strides.gates, channels.gates);
  add(call->w, call->strides.w, channels.w);
  add(call->x, call->strides.x, channels.x);
  call->strides = {channels.x * params.plane, channels.gates * params.plane,
                   channels.w * params.plane, 1};
  call->workspace = target;
  std::sort(sources, end, [](const Source& a, const Source& b) { return a.from < b.from; });
  planRuns(sources, end, &params);
  const int64_t vectorTiles = ceilDiv(params.vectors, kVectors);
  const int64_t positionTiles = ceilDiv(params.plane, kPositions);
  const int64_t blocks = problem.n * positionTiles * vectorTiles;
  if (blocks > std::numeric_limits<int32_t>::max()) return cudaErrorNotSupported;
  params.vectorTiles = static_cast<unsigned>(vectorTiles);
  params.positionTiles = static_cast<unsigned>(positionTiles);
  const bool whole = params.plane % kVector == 0;  // the workspace and what is in it are aligned
  return launchKernel(whole ? layOutPlanesKernel<true> : layOutPlanesKernel<false>,
                      static_cast<unsigned>(blocks), kThreads, 0, call->stream, params);
}

}  // namespace gspn2
