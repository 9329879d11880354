// The generic scan along the contiguous axis, for lines of 33 to 1024 positions.
//
// A position's steps are neighbours in memory and a line's positions are W apart. So each warp
// reads the tile of its 32 positions and kTileSteps steps row by row, a few whole sectors per
// access, turns it over in shared memory, scans it with one thread per position, and turns the
// states back.
#ifndef GSPN2_KERNELS_GENERIC_TRANSPOSED_CUH_
#define GSPN2_KERNELS_GENERIC_TRANSPOSED_CUH_

#include "generic_scan.cuh"

namespace gspn2 {

constexpr int kTileSteps = 8;
constexpr int kTileRows = kWarpSize / kTileSteps;   // positions that one access of a warp covers
constexpr int kTilePitch = kTileSteps + 1;          // odd: no bank holds two positions' values
constexpr int kTileCells = kWarpSize * kTilePitch;  // of one warp, in floats

// One value per access i: the warp's position kTileRows * i + lane / kTileSteps, the tile's step
// lane % kTileSteps ("by rows"); or one value per step i of the position `lane` ("by steps").
struct Tile {
  float values[kTileSteps];
};

__device__ __forceinline__ int tileRow(int access, int lane) {
  return access * kTileRows + lane / kTileSteps;
}

__device__ __forceinline__ void rowsToSteps(float* scratch, int lane, Tile* tile) {
#pragma unroll
  for (int i = 0; i < kTileSteps; ++i) {
    scratch[tileRow(i, lane) * kTilePitch + lane % kTileSteps] = tile->values[i];
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kTileSteps; ++i) tile->values[i] = scratch[lane * kTilePitch + i];
  __syncwarp();
}

__device__ __forceinline__ void stepsToRows(float* scratch, int lane, Tile* tile) {
#pragma unroll
  for (int i = 0; i < kTileSteps; ++i) scratch[lane * kTilePitch + i] = tile->values[i];
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kTileSteps; ++i) {
    tile->values[i] = scratch[tileRow(i, lane) * kTilePitch + lane % kTileSteps];
  }
  __syncwarp();
}

// The elements that this lane moves by rows: access i at `base` + i * stride, if bit i is set.
struct TileAccess {
  int64_t base, stride;
  unsigned mask;
};

template <typename E>
__device__ __forceinline__ Tile loadTile(const E* source, const TileAccess& access) {
  Tile tile;
#pragma unroll
  for (int i = 0; i < kTileSteps; ++i) {
    const bool valid = (access.mask >> i & 1U) != 0;
    tile.values[i] = valid ? toFloat(source[access.base + i * access.stride]) : 0.0F;
  }
  return tile;
}

template <typename E>
__device__ __forceinline__ void storeTile(E* target, const TileAccess& access, const Tile& tile) {
#pragma unroll
  for (int i = 0; i < kTileSteps; ++i) {
    if ((access.mask >> i & 1U) != 0) {
      target[access.base + i * access.stride] = fromFloat<E>(tile.values[i]);
    }
  }
}

// The weights and the input lam * x of a tile.
struct TileInputs {
  Tile minus, centre, plus, input;
};

template <typename T>
__device__ __forceinline__ TileInputs loadTileInputs(const ScanParams<T>& p, const Item& at,
                                                     const TileAccess& access, int firstPosition,
                                                     int lane) {
  const int64_t neighbour = p.affinities * p.plane;
  const T* w = p.w + at.w;
  TileInputs tile;
  tile.minus = loadTile(w, access);
  tile.centre = loadTile(w + neighbour, access);
  tile.plus = loadTile(w + 2 * neighbour, access);
  tile.input = loadTile(p.x + at.x, access);
  const Tile lam = loadTile(p.lam + at.gate, access);
#pragma unroll
  for (int i = 0; i < kTileSteps; ++i) {
    const int position = firstPosition + tileRow(i, lane);
    const Weights weights = normalise(p.normalize, tile.minus.values[i], tile.centre.values[i],
                                      tile.plus.values[i], position > 0, position + 1 < p.line);
    tile.minus.values[i] = weights.minus;
    tile.centre.values[i] = weights.centre;
    tile.plus.values[i] = weights.plus;
    tile.input.values[i] *= lam.values[i];
  }
  return tile;
}

// m (u h + d x) by rows, added to what the earlier directions left; the last one writes y.
template <typename T>
__device__ __forceinline__ void mergeTile(const ScanParams<T>& p, const Item& at,
                                          const TileAccess& access, float merge, Tile tile) {
  const Tile u = loadTile(p.u + at.gate, access);
#pragma unroll
  for (int i = 0; i < kTileSteps; ++i) tile.values[i] *= u.values[i];
  if (p.d != nullptr) {
    const Tile d = loadTile(p.d + at.gate, access);
    const Tile x = loadTile(p.x + at.x, access);
#pragma unroll
    for (int i = 0; i < kTileSteps; ++i) {
      tile.values[i] = fmaf(d.values[i], x.values[i], tile.values[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kTileSteps; ++i) tile.values[i] *= merge;
  if (p.accumulate) {
    const Tile sums = loadTile(p.sums + at.x, access);
#pragma unroll
    for (int i = 0; i < kTileSteps; ++i) tile.values[i] += sums.values[i];
  }
  if (p.finalise) {
    storeTile(p.out + at.x, access, tile);
  } else {
    storeTile(p.sums + at.x, access, tile);
  }
}

// Floats of shared memory: two lines of state between zeros, and each warp's tile.
inline size_t transposedSharedFloats(int64_t line, int64_t block) {
  return static_cast<size_t>(2 * (line + 2) + block / kWarpSize * kTileCells);
}

template <typename T, bool kProp>
__global__ void __launch_bounds__(kMaxBlock)
    scanTransposedKernel(const __grid_constant__ ScanParams<T> p) {
  float* const shared = dynamicShared<float>();
  const int pitch = static_cast<int>(p.line) + 2;
  const int position = static_cast<int>(threadIdx.x);
  const int lane = position % kWarpSize;
  const int firstPosition = position - lane;
  float* const scratch = shared + 2 * pitch + firstPosition / kWarpSize * kTileCells;
  const bool inLine = position < p.line;
  const int cell = inLine ? position : 0;
  const float merge = kProp && p.m != nullptr ? toFloat(*p.m) : 1.0F;
  zeroLineEnds(shared, pitch);

  TileAccess access{};
  access.stride = kTileRows * p.lineStride;
  access.base = tileRow(0, lane) * p.lineStride + lane % kTileSteps * p.stepStride;
  unsigned rows = 0;
#pragma unroll
  for (int i = 0; i < kTileSteps; ++i) {
    if (firstPosition + tileRow(i, lane) < p.line) rows |= 1U << i;
  }

  const int64_t items = p.slices * p.groups;
  for (int64_t index = blockIdx.x; index < items; index += gridDim.x) {
    Item at = locateItem(p, index);  // moves along with the tiles
    at.x += firstPosition * p.lineStride;
    at.gate += firstPosition * p.lineStride;
    at.w += firstPosition * p.lineStride;
    float h = 0.0F;
    int64_t phase = 0;  // steps since the segment's start
    int parity = 0;
    for (int64_t t = 0; t < at.count; t += kTileSteps) {
      const int all = stepsLeft(at.count, t);
      access.mask = lane % kTileSteps < all ? rows : 0;
      TileInputs tile = loadTileInputs(p, at, access, firstPosition, lane);
      for (Tile* part : {&tile.minus, &tile.centre, &tile.plus, &tile.input}) {
        rowsToSteps(scratch, lane, part);
      }
      Tile states{};
#pragma unroll
      for (int i = 0; i < kTileSteps; ++i) {
        if (i < all) {
          const Weights weights{tile.minus.values[i], tile.centre.values[i], tile.plus.values[i]};
          const float* last = shared + parity * pitch + cell;
          h = stepState(weights, last[0], h, last[2], tile.input.values[i], phase == 0);
          phase = phase + 1 == p.chunk ? 0 : phase + 1;
          parity ^= 1;
          if (inLine) shared[parity * pitch + position + 1] = h;
          __syncthreads();
          states.values[i] = h;
        }
      }
      stepsToRows(scratch, lane, &states);
      if constexpr (kProp) {
        mergeTile(p, at, access, merge, states);
      } else {
        storeTile(p.out + at.x, access, states);
      }
      at.x += kTileSteps * p.stepStride;
      at.gate += kTileSteps * p.stepStride;
      at.w += kTileSteps * p.stepStride;
    }
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_GENERIC_TRANSPOSED_CUH_
