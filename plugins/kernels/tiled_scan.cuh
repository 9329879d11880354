// The tiled line scan: compute capability 9.0 and later.
//
// A block, or a cluster of blocks each with a part of the line, walks the steps of one slice. A
// tile is `tileSteps` steps of x, lam and the three affinities at the block's positions. Producer
// warps bring tiles into a ring of shared-memory stages, straight from the row-major map. The
// other warps hold the state in registers, kRows adjacent positions to a lane. They meet once a
// step, over two values each; between publishing theirs and meeting they turn the next step's
// affinities into weights.
//
// Scans whose lines are rows (vertical) have the copy engine bring a tile and read it as it lies.
// Scans whose lines are columns (horizontal) need a few bytes of many rows, which the copy engine
// brings at one row in about eight cycles: four warps of 16-byte asynchronous copies are faster.
// A lane then reads 16 bytes of its row, which are several steps; a swizzle spreads them over the
// banks. The results leave through a tile in shared memory and the copy engine.
//
// Blocks of a cluster meet once per tile: each loads `halo` = tileSteps positions of its
// neighbours too and computes them redundantly. After s steps the outermost s of them are stale,
// after a tile all of them, and the owners' values replace them over distributed shared memory.
#ifndef GSPN2_KERNELS_TILED_SCAN_CUH_
#define GSPN2_KERNELS_TILED_SCAN_CUH_

#include <type_traits>

#include "common.cuh"
#include "hopper.cuh"
#include "stage_cursor.cuh"
#include "tiled_math.cuh"

namespace gspn2 {

constexpr int kMaxTileWarps = 16;    // consumer warps of a block
constexpr int kConsumerBarrier = 1;  // named barrier of the consumer warps
constexpr int kTileTensors = 5;      // x, lam, w-, w0, w+
constexpr int kChunkBytes = 16;      // the widest access, and the unit of the swizzle

// Everything a launch needs; lives in constant memory.
struct TiledScanParams {
  CUtensorMap xMap, lamMap, wMap;  // vertical scans
  CUtensorMap hMap;                // horizontal scans
  const void *x, *lam, *w;
  void* h;
  int64_t plane;    // H * W
  int line, steps;  // positions of a line, steps of the scan
  int width;        // W
  int chunk;        // steps of a segment, never 0
  int channels, affinities;
  int own, halo;            // positions of a block: its own, and those it shares on either side
  int boxes, boxPositions;  // copies that make up a tile of one tensor
  int tileSteps, tiles, stages;
  int warps;  // consumer warps
  bool reverse;
};

// Shared memory, in bytes from the 1024-byte aligned start.
struct TiledLayout {
  int tensorBytes, stageBytes, outBytes;
  int outOffset, edgeOffset, haloOffset, barrierOffset, total;
};

__host__ __device__ inline int roundUp(int value, int multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

__host__ __device__ inline TiledLayout tiledLayout(const TiledScanParams& p, int elementBytes,
                                                   bool horizontal) {
  TiledLayout layout{};
  layout.tensorBytes = roundUp(p.boxes * p.boxPositions * p.tileSteps * elementBytes, 1024);
  layout.stageBytes = kTileTensors * layout.tensorBytes;
  layout.outBytes = horizontal ? roundUp(p.own * p.tileSteps * elementBytes, 1024) : 0;
  layout.outOffset = p.stages * layout.stageBytes;
  layout.edgeOffset = layout.outOffset + 2 * layout.outBytes;
  layout.haloOffset = layout.edgeOffset + 4 * (kMaxTileWarps + 2) * 4;
  layout.barrierOffset = layout.haloOffset + roundUp(4 * p.halo * 4, 16);
  layout.total = layout.barrierOffset + (2 * p.stages + 2) * 8;
  return layout;
}

template <typename T_, bool kHorizontal_, bool kReverse_, int kRows_, int kTileBytes_,
          gspn2_normalize_t kNormalize_, int kWarps_>
struct TiledConfig {
  using T = T_;
  static constexpr bool kHorizontal = kHorizontal_;
  static constexpr bool kReverse = kReverse_;     // vertical scans take it from the parameters
  static constexpr int kRows = kRows_;            // positions of a lane
  static constexpr int kTileBytes = kTileBytes_;  // horizontal: bytes of a tile's row
  static constexpr gspn2_normalize_t kNormalize = kNormalize_;
  static constexpr int kMaxWarps = kWarps_;               // consumer warps of a block, at most
  static constexpr int kProducers = kHorizontal ? 4 : 1;  // producer warps
  static constexpr int kGroup = kHorizontal ? kChunkBytes / static_cast<int>(sizeof(T)) : 4;
  static constexpr int kThreads = (kMaxWarps + kProducers) * kWarpSize;
};

// Which 16-byte chunk of a tile's row holds chunk `chunk`: the copy engine's swizzle.
template <int kTileBytes>
__device__ __forceinline__ int swizzle(int row, int chunk) {
  static_assert(kTileBytes == 32 || kTileBytes == 64 || kTileBytes == 128, "unsupported swizzle");
  if constexpr (kTileBytes == 32) return chunk ^ ((row >> 2) & 1);
  if constexpr (kTileBytes == 64) return chunk ^ ((row >> 1) & 3);
  return chunk ^ (row & 7);
}

// What a block works on.
struct TileBlock {
  int rank, parts;  // its part of the line
  int slice;        // its (n, c)
  int affinity;     // plane of its first affinity in w
  int start;        // position of the first line element in its tiles; may be negative

  __device__ __forceinline__ explicit TileBlock(const TiledScanParams& p) {
    parts = (p.line + p.own - 1) / p.own;
    rank = p.halo > 0 ? static_cast<int>(clusterRank()) : 0;
    slice = static_cast<int>(blockIdx.x) / parts;
    const int n = slice / p.channels;
    affinity = n * 3 * p.affinities + (p.affinities == 1 ? 0 : slice - n * p.channels);
    start = rank * p.own - p.halo;
  }
};

// The producer of a vertical scan: one thread and the copy engine.
template <typename C>
__device__ __forceinline__ void produceRows(const TiledScanParams& p, const TiledLayout& layout,
                                            const TileBlock& block, uint32_t stages,
                                            uint32_t barriers) {
  const int boxBytes = p.boxPositions * p.tileSteps * static_cast<int>(sizeof(typename C::T));
  const uint64_t policy = p.affinities == 1 ? kEvictNormal : kEvictFirst;
  StageCursor cursor;
  for (int i = 0; i < p.tiles; ++i) {
    const uint32_t full = barriers + 8 * cursor.stage;
    if (i >= p.stages) barrierWait(full + 8 * p.stages, cursor.parity ^ 1);
    barrierArriveExpect(full, static_cast<uint32_t>(kTileTensors * p.boxes * boxBytes));
    const int row = (p.reverse ? p.tiles - 1 - i : i) * p.tileSteps;
    const uint32_t target = stages + cursor.stage * layout.stageBytes;
    for (int box = 0; box < p.boxes; ++box) {
      const int column = block.start + box * p.boxPositions;
      const uint32_t at = target + box * boxBytes;
      loadTile(at, &p.xMap, column, row, block.slice, full, kEvictFirst);
      loadTile(at + layout.tensorBytes, &p.lamMap, column, row, block.slice, full, kEvictFirst);
      for (int j = 0; j < 3; ++j) {
        loadTile(at + (2 + j) * layout.tensorBytes, &p.wMap, column, row,
                 block.affinity + j * p.affinities, full, policy);
      }
    }
    cursor.advance(p.stages);
  }
}

// The producers of a horizontal scan: each thread copies one 16-byte chunk of every few rows.
template <typename C>
__device__ __forceinline__ void produceColumns(const TiledScanParams& p, const TiledLayout& layout,
                                               const TileBlock& block, uint32_t stages,
                                               uint32_t barriers, int thread) {
  using T = typename C::T;
  constexpr int kChunks = C::kTileBytes / kChunkBytes;
  constexpr int kRowStep = C::kProducers * kWarpSize / kChunks;
  static_assert(kRowStep % 8 == 0, "a thread's rows must share their swizzle");
  const int firstRow = thread / kChunks;
  const int chunk = thread % kChunks;
  const uint32_t within =
      firstRow * C::kTileBytes + swizzle<C::kTileBytes>(firstRow, chunk) * kChunkBytes;
  const int extent = p.own + 2 * p.halo;
  const T* const sources[kTileTensors] = {
      static_cast<const T*>(p.x) + block.slice * p.plane,
      static_cast<const T*>(p.lam) + block.slice * p.plane,
      static_cast<const T*>(p.w) + block.affinity * p.plane,
      static_cast<const T*>(p.w) + (block.affinity + p.affinities) * p.plane,
      static_cast<const T*>(p.w) + (block.affinity + 2 * p.affinities) * p.plane};
  StageCursor cursor;
  for (int i = 0; i < p.tiles; ++i) {
    const uint32_t full = barriers + 8 * cursor.stage;
    if (i >= p.stages) barrierWait(full + 8 * p.stages, cursor.parity ^ 1);
    const int column = (C::kReverse ? p.tiles - 1 - i : i) * p.tileSteps + chunk * C::kGroup;
    uint32_t target = stages + cursor.stage * layout.stageBytes + within;
    for (int row = firstRow; row < extent; row += kRowStep) {
      const int position = block.start + row;
      const bool inside = column < p.width && position >= 0 && position < p.line;
      const int64_t offset = inside ? static_cast<int64_t>(position) * p.width + column : 0;
#pragma unroll
      for (int j = 0; j < kTileTensors; ++j) {
        copyChunk(target + j * layout.tensorBytes, sources[j] + offset, inside ? kChunkBytes : 0);
      }
      target += kRowStep * C::kTileBytes;
    }
    barrierArriveCopies(full);
    cursor.advance(p.stages);
  }
}

// Hands a consumer the steps' inputs, in scan order and one group of steps ahead of their use.
template <typename C>
struct TileReader {
  using T = typename C::T;
  static constexpr int kRows = C::kRows;
  static constexpr int kGroup = C::kGroup;
  static constexpr int kHeld = C::kHorizontal ? kGroup : 1;

  const TiledScanParams& p;
  const char* stages;  // shared memory
  uint32_t barriers;
  int stageBytes, tensorBytes;
  int first;   // this lane's first position in the tile
  int offset;  // vertical: bytes to it
  int stepPitch;
  bool reverse, releases;
  StageCursor cursor;
  int group, groups;
  alignas(kChunkBytes) T held[kTileTensors][kRows][kHeld];  // horizontal: this group's steps

  __device__ __forceinline__ const char* tile() const { return stages + cursor.stage * stageBytes; }

  __device__ __forceinline__ void release() {
    __syncwarp();
    if (releases) barrierArrive(barriers + 8 * (p.stages + cursor.stage));
  }

  // Opens the group at the cursor.
  __device__ __forceinline__ void open() {
    if (group == 0) barrierWait(barriers + 8 * cursor.stage, cursor.parity);
    if constexpr (C::kHorizontal) {
      constexpr int kChunks = C::kTileBytes / kChunkBytes;
      const int chunk = C::kReverse ? kChunks - 1 - group : group;
#pragma unroll
      for (int j = 0; j < kTileTensors; ++j) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const int row = first + r;
          *reinterpret_cast<uint4*>(held[j][r]) =
              *reinterpret_cast<const uint4*>(tile() + j * tensorBytes + row * C::kTileBytes +
                                              swizzle<C::kTileBytes>(row, chunk) * kChunkBytes);
        }
      }
      if (group + 1 == groups) release();
    }
  }

  // Step `s` of the open group, as raw values.
  __device__ __forceinline__ void read(int s, float (&values)[kTileTensors][kRows]) const {
    if constexpr (C::kHorizontal) {
#pragma unroll
      for (int j = 0; j < kTileTensors; ++j) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          values[j][r] = toFloat(held[j][r][C::kReverse ? kGroup - 1 - s : s]);
        }
      }
    } else {
      const int step = group * kGroup + s;
      const char* const source =
          tile() + offset + (reverse ? p.tileSteps - 1 - step : step) * stepPitch;
#pragma unroll
      for (int j = 0; j < kTileTensors; ++j) {
        using Access =
            std::conditional_t<sizeof(T) * kRows == 16, uint4,
                               std::conditional_t<sizeof(T) * kRows == 8, uint2, unsigned>>;
        static_assert(sizeof(T) * kRows == sizeof(Access), "unsupported access");
        alignas(Access) T raw[kRows];
        *reinterpret_cast<Access*>(raw) =
            *reinterpret_cast<const Access*>(source + j * tensorBytes);
#pragma unroll
        for (int r = 0; r < kRows; ++r) values[j][r] = toFloat(raw[r]);
      }
    }
  }

  // Closes the open group; the last of all stays open, to be read again in vain.
  __device__ __forceinline__ void close(bool last) {
    if (last) return;
    if (group + 1 < groups) {
      ++group;
      return;
    }
    if constexpr (!C::kHorizontal) release();
    group = 0;
    cursor.advance(p.stages);
  }
};

// One step's weights and lam * x.
template <int kRows>
struct Column {
  float minus[kRows], centre[kRows], plus[kRows], input[kRows];
};

// Where this lane stands on the line.
template <typename C>
struct LanePosition {
  int first, position, extent, line;
  bool outside[C::kRows];

  __device__ __forceinline__ Column<C::kRows> prepare(
      const float (&values)[kTileTensors][C::kRows]) const {
    constexpr float kMissing = C::kNormalize == GSPN2_NORMALIZE_NONE ? 0.0F : -INFINITY;
    Column<C::kRows> column;
#pragma unroll
    for (int r = 0; r < C::kRows; ++r) {
      column.input[r] = outside[r] ? 0.0F : values[0][r] * values[1][r];
      column.minus[r] = position + r == 0 ? kMissing : values[2][r];
      column.centre[r] = values[3][r];
      column.plus[r] = position + r == line - 1 ? kMissing : values[4][r];
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

// Vertical scans write their states straight to the map.
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

template <typename C>
__global__ void __launch_bounds__(C::kThreads, 1)
    tiledScanKernel(const __grid_constant__ TiledScanParams p) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  using T = typename C::T;
  constexpr int kRows = C::kRows;
  constexpr int kGroup = C::kGroup;
  constexpr int kEdgePitch = kMaxTileWarps + 2;
  char* const shared = dynamicShared<char>();
  const TiledLayout layout = tiledLayout(p, sizeof(T), C::kHorizontal);
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
      barrierInit(barriers + 8 * i, C::kHorizontal ? C::kProducers * kWarpSize : 1);
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
    if constexpr (C::kHorizontal) {
      produceColumns<C>(p, layout, block, base, barriers,
                        static_cast<int>(threadIdx.x) - p.warps * kWarpSize);
    } else if (lane == 0) {
      produceRows<C>(p, layout, block, base, barriers);
    }
    return;
  }

  const bool reverse = C::kHorizontal ? C::kReverse : p.reverse;
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
  const int box = C::kHorizontal ? 0 : readFirst / p.boxPositions;
  TileReader<C> reader{p,
                       shared,
                       barriers,
                       layout.stageBytes,
                       layout.tensorBytes,
                       readFirst,
                       (box * p.boxPositions * (p.tileSteps - 1) + readFirst) * elementBytes,
                       p.boxPositions * elementBytes,
                       reverse,
                       lane == 0,
                       StageCursor{},
                       0,
                       p.tileSteps / kGroup,
                       {}};

  float h[kRows] = {};
  // Steps since the segment's start. Tiles lie on a grid from the map's origin, so that a reverse
  // scan begins with the part of its first tile that is outside the map, all zeros.
  int phase = reverse ? p.steps - p.tiles * p.tileSteps : 0;
  float* line = edges;  // two lines of edges in turn, so that one barrier per step is enough
  float* otherLine = edges + 2 * kEdgePitch;
  const int groups = reader.groups;
  const bool stores = at.first >= p.halo && at.first < p.halo + p.own && at.position < p.line;
  T* const outSlice = static_cast<T*>(p.h) + block.slice * p.plane + at.position;

  Column<kRows> columns[kGroup];
  reader.open();
#pragma unroll
  for (int s = 0; s < kGroup; ++s) {
    float values[kTileTensors][kRows];
    reader.read(s, values);
    columns[s] = at.prepare(values);
  }
  reader.close(groups == 1 && p.tiles == 1);

  for (int i = 0; i < p.tiles; ++i) {
    for (int group = 0; group < groups; ++group) {
      const bool last = i * groups + group + 2 >= p.tiles * groups;
      alignas(kChunkBytes) T results[kRows][kGroup];
      reader.open();
#pragma unroll
      for (int s = 0; s < kGroup; ++s) {
        if (lane == 0) line[warp + 1] = h[0];
        if (lane == kWarpSize - 1) line[kEdgePitch + warp + 1] = h[kRows - 1];
        float left = __shfl_up_sync(kFullMask, h[kRows - 1], 1);
        float right = __shfl_down_sync(kFullMask, h[0], 1);
        float values[kTileTensors][kRows];
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
          if constexpr (C::kHorizontal) {
            results[r][C::kReverse ? kGroup - 1 - s : s] = fromFloat<T>(h[r]);
          }
        }
        columns[s] = next;
        if constexpr (!C::kHorizontal) {
          const int step = group * kGroup + s;
          const int row = reverse ? (p.tiles - i) * p.tileSteps - 1 - step : i * p.tileSteps + step;
          if (stores && row < p.steps) {
            storeRow<C>(h, outSlice + static_cast<int64_t>(row) * p.width);
          }
        }
      }
      reader.close(last);
      if constexpr (C::kHorizontal) {
        constexpr int kChunks = C::kTileBytes / kChunkBytes;
        char* const tile = shared + layout.outOffset + (i & 1) * layout.outBytes;
        const int chunk = C::kReverse ? kChunks - 1 - group : group;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const int row = at.first + r - p.halo;
          if (row >= 0 && row < p.own) {
            *reinterpret_cast<uint4*>(tile + row * C::kTileBytes +
                                      swizzle<C::kTileBytes>(row, chunk) * kChunkBytes) =
                *reinterpret_cast<const uint4*>(results[r]);
          }
        }
      }
    }

    if constexpr (C::kHorizontal) {
      fenceSharedForCopies();
      namedBarrier(kConsumerBarrier, p.warps * kWarpSize);
      if (threadIdx.x == 0) {
        storeTile(&p.hMap, (reverse ? p.tiles - 1 - i : i) * p.tileSteps, block.rank * p.own,
                  block.slice, base + layout.outOffset + (i & 1) * layout.outBytes, kEvictNormal);
        commitStores();
        waitStoresRead<1>();  // the other buffer is free again; the next barrier tells the others
      }
      __syncwarp();
    }
    if (p.halo > 0 && i + 1 < p.tiles) {
      exchangeHalos<C>(p, block, at, halos, haloBarriers, i, h);
    }
  }
  if (C::kHorizontal && threadIdx.x == 0) waitStores();
#endif
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_TILED_SCAN_CUH_
