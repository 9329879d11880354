// The tiled scan: vertical directions of either op on compute capability 9.0 and later.
//
// A block, or a cluster of blocks each with a part of the line, walks the steps of one slice. A
// tile is `tileSteps` rows of x, lam, the three affinities and, where states are gated, u at the
// block's positions. A producer thread has the copy engine bring tiles into a ring of shared-memory
// stages. The other warps hold the state in registers, kRows adjacent positions to a lane. They
// meet once a step, over two values each; between publishing theirs and meeting they turn the next
// step's affinities into weights.
//
// Blocks of a cluster meet once per tile: each loads `halo` = tileSteps positions of its
// neighbours too and computes them redundantly. After s steps the outermost s of them are stale,
// after a tile all of them, and the owners' values replace them over distributed shared memory.
#ifndef GSPN2_KERNELS_TILED_SCAN_CUH_
#define GSPN2_KERNELS_TILED_SCAN_CUH_

#include <type_traits>

#include "tiled_math.cuh"
#include "tiled_stages.cuh"

namespace gspn2 {

constexpr int kConsumerBarrier = 1;  // named barrier of the consumer warps

// Hands a consumer the steps' inputs, in scan order and one group of steps ahead of their use.
template <typename C>
struct TileReader {
  using T = typename C::T;
  static constexpr int kRows = C::kRows;
  static constexpr int kGroup = C::kGroup;
  static constexpr int kTensors = C::kTensors;

  const TiledScanParams& p;
  const char* stages;  // shared memory
  uint32_t barriers;
  int stageBytes, tensorBytes;
  int offset;  // bytes to this lane's first position in the tile
  int stepPitch;
  bool reverse, releases;
  StageCursor cursor;
  int group, groups;

  __device__ __forceinline__ const char* tile() const { return stages + cursor.stage * stageBytes; }

  __device__ __forceinline__ void release() {
    __syncwarp();
    if (releases) barrierArrive(barriers + 8 * (p.stages + cursor.stage));
  }

  // Opens the group at the cursor.
  __device__ __forceinline__ void open() {
    if (group == 0) barrierWait(barriers + 8 * cursor.stage, cursor.parity);
  }

  // Step `s` of the open group, as raw values.
  __device__ __forceinline__ void read(int s, float (&values)[kTensors][kRows]) const {
    const int step = group * kGroup + s;
    const char* const source =
        tile() + offset + (reverse ? p.tileSteps - 1 - step : step) * stepPitch;
#pragma unroll
    for (int j = 0; j < kTensors; ++j) {
      using Access =
          std::conditional_t<sizeof(T) * kRows == 16, uint4,
                             std::conditional_t<sizeof(T) * kRows == 8, uint2, unsigned>>;
      static_assert(sizeof(T) * kRows == sizeof(Access), "unsupported access");
      alignas(Access) T raw[kRows];
      *reinterpret_cast<Access*>(raw) = *reinterpret_cast<const Access*>(source + j * tensorBytes);
#pragma unroll
      for (int r = 0; r < kRows; ++r) values[j][r] = toFloat(raw[r]);
    }
  }

  // Closes the open group; the last of all stays open, to be read again in vain.
  __device__ __forceinline__ void close(bool last) {
    if (last) return;
    if (group + 1 < groups) {
      ++group;
      return;
    }
    release();
    group = 0;
    cursor.advance(p.stages);
  }
};

// One step's weights, lam * x and, where states are gated, u.
template <int kRows>
struct Column {
  float minus[kRows], centre[kRows], plus[kRows], input[kRows], gate[kRows];
};

// Where this lane stands on the line.
template <typename C>
struct LanePosition {
  int first, position, extent, line;
  bool outside[C::kRows];

  __device__ __forceinline__ Column<C::kRows> prepare(
      const float (&values)[C::kTensors][C::kRows]) const {
    constexpr float kMissing = C::kNormalize == GSPN2_NORMALIZE_NONE ? 0.0F : -INFINITY;
    Column<C::kRows> column;
#pragma unroll
    for (int r = 0; r < C::kRows; ++r) {
      column.input[r] = outside[r] ? 0.0F : values[0][r] * values[1][r];
      column.minus[r] = position + r == 0 ? kMissing : values[2][r];
      column.centre[r] = values[3][r];
      column.plus[r] = position + r == line - 1 ? kMissing : values[4][r];
      if constexpr (C::kGated) column.gate[r] = values[5][r];
      normaliseFast<C::kNormalize>(column.minus[r], column.centre[r], column.plus[r]);
    }
    return column;
  }
};

// Gives the owners' states to the neighbours' halos and takes theirs, after tile `tile`.
template <typename C>
__device__ __forceinline__ void exchangeHalos(const TiledScanParams& p, const TileBlock& block,
                                              const LanePosition<C>& lane, float* halos,
                                              uint32_t barriers, int tile, float (&h)[C::kRows]) {
  const int turn = tile & 1;  // two buffers in turn: a neighbour is at most one tile ahead
  const uint32_t barrier = barriers + 8 * turn;
  float* const incoming = halos + turn * 2 * p.halo;
  if (threadIdx.x == 0) {
    const int neighbours = (block.rank > 0) + (block.rank + 1 < block.parts);
    barrierArriveExpect(barrier, neighbours * p.halo * 4);
  }
  const uint32_t target = sharedAddress(incoming);
  bool receives = false;
#pragma unroll
  for (int r = 0; r < C::kRows; ++r) {
    const int e = lane.first + r;
    if (block.rank > 0 && e >= p.halo && e < 2 * p.halo) {
      storeRemote(clusterAddress(target + 4 * e, block.rank - 1), h[r],
                  clusterAddress(barrier, block.rank - 1));
    }
    if (block.rank + 1 < block.parts && e >= p.own && e < p.own + p.halo) {
      storeRemote(clusterAddress(target + 4 * (e - p.own), block.rank + 1), h[r],
                  clusterAddress(barrier, block.rank + 1));
    }
    receives = receives || ((e < p.halo || e >= p.halo + p.own) && !lane.outside[r]);
  }
  if (receives) {
    barrierWaitCluster(barrier, (tile >> 1) & 1);
#pragma unroll
    for (int r = 0; r < C::kRows; ++r) {
      const int e = lane.first + r;
      if (!lane.outside[r] && e < p.halo) h[r] = incoming[e];
      if (!lane.outside[r] && e >= p.halo + p.own) h[r] = incoming[e - p.own];
    }
  }
  __syncwarp();
}

// The sums that a lane's results are added to. They come straight from memory: in a stage they
// would take as much as two more tensors, which leaves 1,024 positions one stage instead of two. A
// group of steps is asked for at once, ahead of the steps of the group before it: all these loads
// share a scoreboard (CUDA 13.0), so that one load a step would be waited for in the next step.
template <typename C>
struct SumsAhead {
  static_assert(C::kRows == 2, "two positions to a lane");
  float2 now[C::kGroup], next[C::kGroup];

  // Asks for the group that begins at `row` of the map; `first` is this lane's element of row 0.
  __device__ __forceinline__ void load(const TiledScanParams& p, int64_t first, bool stores,
                                       int row) {
    if constexpr (C::kReadsSums) {
#pragma unroll
      for (int s = 0; s < C::kGroup; ++s) {
        const int at = p.reverse ? row - s : row + s;
        if (stores && at >= 0 && at < p.steps) {
          const float* const source = p.sums + first + static_cast<int64_t>(at) * p.line;
          next[s] = __ldcs(reinterpret_cast<const float2*>(source));
        }
      }
    }
  }

  // Opens the group that was asked for last.
  __device__ __forceinline__ void take() {
    if constexpr (C::kReadsSums) {
#pragma unroll
      for (int s = 0; s < C::kGroup; ++s) now[s] = next[s];
    }
  }
};

// Results go straight to the map.
template <typename C>
__device__ __forceinline__ void storeRow(const float (&h)[C::kRows], typename C::T* target) {
  using T = typename C::T;
  using Access = std::conditional_t<sizeof(T) * C::kRows == 16, uint4,
                                    std::conditional_t<sizeof(T) * C::kRows == 8, uint2, unsigned>>;
  alignas(Access) T values[C::kRows];
#pragma unroll
  for (int r = 0; r < C::kRows; ++r) values[r] = fromFloat<T>(h[r]);
  __stcs(reinterpret_cast<Access*>(target), *reinterpret_cast<const Access*>(values));
}

// One step's results.
template <typename C>
__device__ __forceinline__ void emitRow(const TiledScanParams& p, int64_t target,
                                        const Column<C::kRows>& column, float2 sums, float merge,
                                        const float (&h)[C::kRows]) {
  static_assert(C::kRows == 2, "two positions to a lane");
  auto* const out = static_cast<typename C::T*>(p.out) + target;
  if constexpr (!C::kGated) {
    storeRow<C>(h, out);
  } else {
    const float first = merge * (column.gate[0] * h[0]);
    const float second = merge * (column.gate[1] * h[1]);
    if constexpr (C::kReadsSums) {
      storeRow<C>({sums.x + first, sums.y + second}, out);
    } else {
      addToGlobal(p.sums + target, make_float2(first, second));
    }
  }
}

template <typename C>
__global__ void __launch_bounds__(C::kThreads, 1)
    tiledScanKernel(const __grid_constant__ TiledScanParams p) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  using T = typename C::T;
  constexpr int kRows = C::kRows;
  constexpr int kGroup = C::kGroup;
  constexpr int kEdgePitch = kMaxTileWarps + 2;
  char* const shared = dynamicShared<char>();
  constexpr int kTensors = C::kTensors;
  const TiledLayout layout = tiledLayout<C>(p);
  const uint32_t base = sharedAddress(shared);
  const uint32_t barriers = base + layout.barrierOffset;
  const uint32_t haloBarriers = barriers + 16 * p.stages;
  float* const edges = reinterpret_cast<float*>(shared + layout.edgeOffset);
  float* const halos = reinterpret_cast<float*>(shared + layout.haloOffset);
  const TileBlock block(p);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;

  if (threadIdx.x == 0) {
    for (int i = 0; i < p.stages; ++i) {
      barrierInit(barriers + 8 * i, 1);
      barrierInit(barriers + 8 * (p.stages + i), p.warps);
    }
    barrierInit(haloBarriers, 1);
    barrierInit(haloBarriers + 8, 1);
    barrierInitFence();
  }
  if (threadIdx.x < 4 * kEdgePitch) edges[threadIdx.x] = 0.0F;
  __syncthreads();
  if (p.halo > 0) clusterSync();  // peers write into this block only after its barriers exist

  if (warp >= p.warps) {
    if (lane == 0) produceTiles<C>(p, layout, block, base, barriers);
    return;
  }

  LanePosition<C> at;
  at.extent = p.own + 2 * p.halo;
  at.first = static_cast<int>(threadIdx.x) * kRows;
  at.position = block.start + at.first;
  at.line = p.line;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    at.outside[r] = at.position + r < 0 || at.position + r >= p.line || at.first + r >= at.extent;
  }
  const int readFirst = at.first < at.extent ? at.first : 0;  // spare lanes: anything harmless
  const int elementBytes = static_cast<int>(sizeof(T));
  const int box = readFirst / p.boxPositions;
  TileReader<C> reader{p,
                       shared,
                       barriers,
                       layout.stageBytes,
                       layout.tensorBytes,
                       (box * p.boxPositions * (p.tileSteps - 1) + readFirst) * elementBytes,
                       p.boxPositions * elementBytes,
                       p.reverse,
                       lane == 0,
                       StageCursor{},
                       0,
                       p.tileSteps / kGroup};

  float h[kRows] = {};
  // Steps since the segment's start. Tiles lie on a grid from the map's origin, so that a reverse
  // scan begins with the part of its first tile that is outside the map, all zeros.
  int phase = p.reverse ? p.steps - p.tiles * p.tileSteps : 0;
  float* line = edges;  // two lines of edges in turn, so that one barrier per step is enough
  float* otherLine = edges + 2 * kEdgePitch;
  const int groups = reader.groups;
  const bool stores = at.first >= p.halo && at.first < p.halo + p.own && at.position < p.line;
  const int64_t outFirst = block.slice * p.plane + at.position;
  const float merge = C::kGated ? mergeWeight<T>(p.m, 0) : 1.0F;

  SumsAhead<C> ahead{};
  int aheadRow = p.reverse ? p.tiles * p.tileSteps - 1 : 0;  // of the map
  ahead.load(p, outFirst, stores, aheadRow);

  Column<kRows> columns[kGroup];
  reader.open();
#pragma unroll
  for (int s = 0; s < kGroup; ++s) {
    float values[kTensors][kRows];
    reader.read(s, values);
    columns[s] = at.prepare(values);
  }
  reader.close(groups == 1 && p.tiles == 1);

  for (int i = 0; i < p.tiles; ++i) {
    for (int group = 0; group < groups; ++group) {
      const bool last = i * groups + group + 2 >= p.tiles * groups;
      reader.open();
      ahead.take();
      aheadRow += p.reverse ? -kGroup : kGroup;
      ahead.load(p, outFirst, stores, aheadRow);
#pragma unroll
      for (int s = 0; s < kGroup; ++s) {
        if (lane == 0) line[warp + 1] = h[0];
        if (lane == kWarpSize - 1) line[kEdgePitch + warp + 1] = h[kRows - 1];
        float left = __shfl_up_sync(kFullMask, h[kRows - 1], 1);
        float right = __shfl_down_sync(kFullMask, h[0], 1);
        float values[kTensors][kRows];
        reader.read(s, values);
        const Column<kRows> next = at.prepare(values);
        namedBarrier(kConsumerBarrier, p.warps * kWarpSize);
        if (lane == 0) left = line[kEdgePitch + warp];
        if (lane == kWarpSize - 1) right = line[warp + 2];
        float* const swapped = line;
        line = otherLine;
        otherLine = swapped;

        const bool restart = phase <= 0;
        phase = phase + 1 == p.chunk ? 0 : phase + 1;
        float below = left;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const Column<kRows>& now = columns[s];
          const float above = r + 1 < kRows ? h[r + 1] : right;
          const float carried =
              fmaf(now.minus[r], below,
                   fmaf(now.plus[r], above, fmaf(now.centre[r], h[r], now.input[r])));
          below = h[r];
          h[r] = restart || at.outside[r] ? now.input[r] : carried;
        }
        const int step = group * kGroup + s;
        const int row = p.reverse ? (p.tiles - i) * p.tileSteps - 1 - step : i * p.tileSteps + step;
        if (stores && row < p.steps) {
          const int64_t target = outFirst + static_cast<int64_t>(row) * p.line;
          emitRow<C>(p, target, columns[s], ahead.now[s], merge, h);
        }
        columns[s] = next;
      }
      reader.close(last);
    }

    if (p.halo > 0 && i + 1 < p.tiles) {
      exchangeHalos<C>(p, block, at, halos, haloBarriers, i, h);
    }
  }
#endif
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_TILED_SCAN_CUH_
