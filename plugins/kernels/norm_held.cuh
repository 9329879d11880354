// gspn2_channel_norm with a response on GSPN2_NHWC8, in one launch: a cluster of blocks has a batch
// item, and holds it in shared memory from the one read to the one write. The blocks send each
// other their sums of squares. Compute capability 9.0 and later.
#ifndef GSPN2_KERNELS_NORM_HELD_CUH_
#define GSPN2_KERNELS_NORM_HELD_CUH_

#include "norm_project.cuh"
#include "norm_rows.cuh"

namespace gspn2 {

constexpr int kHeldThreads = 512;  // of a block, at most
constexpr int kHeldLeastThreads = 256;
constexpr int kHeldMostVectors = 4;  // of a row, to a lane
constexpr int kHeldCopies = 8;       // that bring a tile, at most

// A block's shared memory, in floats.
struct HeldLayout {
  int warpSums;    // of squares, (warps, pitch), behind those of every block, (tiles, C)
  int affines;     // of the item's channels
  int statistics;  // of the tile's rows
  int proxies;     // (P, tile)
  int rows;        // of 16-bit values, (tile, pitch), aligned to 16 bytes
  int size;

  __host__ __device__ HeldLayout(const NormParams& p, int threads)
      : warpSums(rounded(p.tiles * p.channels)),
        affines(warpSums + threads / kWarpSize * p.pitch),
        statistics(affines + 2 * p.channels),
        proxies(statistics + 2 * p.tile),
        rows(rounded(proxies + p.proxies * p.tile)),
        size(rows + p.tile * p.pitch / 2) {}

  __host__ __device__ static int rounded(int floats) { return (floats + 3) / 4 * 4; }
};

// What a thread makes of its channels' sums, kCount of them a block apart: what each channel of the
// item is multiplied by, and what is added.
template <typename T, int kCount>
struct HeldResponse {
  const NormParams& p;
  Affine own[kCount], response[kCount];

  // Reads the parameters, which are far away, before anything waits for them.
  __device__ __forceinline__ explicit HeldResponse(const NormParams& params) : p(params) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int c = channel(i);
      if (c >= p.channels) break;
      own[i] = affineOf<T>(p, c);
      response[i] = {toFloat(static_cast<const T*>(p.responseScale)[c]),
                     toFloat(static_cast<const T*>(p.responseShift)[c])};
    }
  }
  __device__ __forceinline__ int channel(int i) const {
    return static_cast<int>(threadIdx.x) + i * static_cast<int>(blockDim.x);
  }
  // Of the sums of squares of every block, (tiles, C); `affines` (C) are there for the whole block
  // behind it.
  __device__ __forceinline__ void respond(const float* squares, Affine* affines) const {
    struct Totals {
      float warps[kWarpSize];
    };
    auto& totals = staticShared<Totals>();
    float responses[kCount];
    float total = 0.0F;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (channel(i) >= p.channels) break;
      const float sum = sumOfRows(squares, p.tiles, p.channels, channel(i));
      responses[i] = sqrtf(sum / static_cast<float>(p.plane) + p.responseEpsilon);
      total += responses[i];
    }
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    total = laneSum<kWarpSize>(total);
    if (lane == 0) totals.warps[threadIdx.x / kWarpSize] = total;
    __syncthreads();
    const bool isWarp = lane < static_cast<int>(blockDim.x) / kWarpSize;
    const float mean =
        laneSum<kWarpSize>(isWarp ? totals.warps[lane] : 0.0F) / static_cast<float>(p.channels);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (channel(i) >= p.channels) break;
      const float factor = fmaf(response[i].scale, responses[i] / mean, 1.0F);
      affines[channel(i)] = {own[i].scale * factor, fmaf(own[i].shift, factor, response[i].shift)};
    }
    __syncthreads();
  }
};

// A block's tile, in shared memory.
template <typename T, int kVectors>
struct HeldRows {
  using Tile = RowTile<T, kVectors>;
  using Vector = typename Tile::Vector;

  const Tile& tile;
  T* const rows;
  const int count;    // rows
  const int perCopy;  // of them, but for the last copy

  __device__ __forceinline__ HeldRows(const Tile& whole, float* shared, int step)
      : tile(whole),
        rows(reinterpret_cast<T*>(shared)),
        count(max(0, static_cast<int>(whole.end - whole.begin))),
        perCopy(((whole.p.tile + step - 1) / step + kHeldCopies - 1) / kHeldCopies * step) {}

  // By one thread: starts the copies, each with its barrier.
  __device__ __forceinline__ void fetch(uint32_t barriers) const {
    const T* const source = static_cast<const T*>(tile.p.x) + tile.rowOffset(tile.begin);
    for (int first = 0, copy = 0; first < count; first += perCopy, ++copy) {
      const int bytes = min(perCopy, count - first) * tile.p.pitch * static_cast<int>(sizeof(T));
      barrierArriveExpect(barriers + 8 * copy, static_cast<uint32_t>(bytes));
      copyBulk(sharedAddress(rows + first * tile.p.pitch), source + int64_t{first} * tile.p.pitch,
               bytes, barriers + 8 * copy, kEvictFirst);
    }
  }
  // What a lane has of a row; 0 where there is none.
  __device__ __forceinline__ void read(int row, Vector (&values)[kVectors]) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      values[i] = Vector{};
      if (row < count && tile.channel(i) < tile.p.pitch) values[i] = *at(row, i);
    }
  }
  __device__ __forceinline__ void write(int row, const Vector (&values)[kVectors]) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (row < count && tile.channel(i) < tile.p.pitch) *at(row, i) = values[i];
    }
  }
  __device__ __forceinline__ Vector* at(int row, int i) const {
    return reinterpret_cast<Vector*>(rows + row * tile.p.pitch + tile.channel(i));
  }
};

template <typename T, int kVectors, bool kProjects>
__global__ void __launch_bounds__(kHeldThreads, 1)
    normHeldKernel(const __grid_constant__ NormParams p) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  using Tile = RowTile<T, kVectors>;
  using Vector = typename Tile::Vector;
  constexpr int kRows = kHeldMostVectors / kVectors;  // that a lane has at once
  struct Barriers {
    uint64_t copied[kHeldCopies];  // a part of the tile
    uint64_t collected;            // every block's sums
  };
  auto& barriers = staticShared<Barriers>();
  const uint32_t copied = sharedAddress(barriers.copied);
  const uint32_t collected = sharedAddress(&barriers.collected);
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  if (thread < kHeldCopies) barrierInit(copied + 8 * thread, 1);
  if (thread == kHeldCopies) barrierInit(collected, 1);
  barrierInitFence();
  __syncthreads();
  clusterArrive();  // the others send only after this block's barriers exist
  waitForPreviousKernel();

  const Tile tile(p);
  const int step = tile.groups * kRows;
  const HeldLayout layout(p, threads);
  float* const sums = dynamicShared<float>();
  float* const warpSums = sums + layout.warpSums;
  float* const proxies = sums + layout.proxies;
  auto* const affines = reinterpret_cast<Affine*>(sums + layout.affines);
  auto* const statistics = reinterpret_cast<Statistics*>(sums + layout.statistics);
  const HeldRows<T, kVectors> held(tile, sums + layout.rows, step);
  if (thread == 0) {
    barrierArriveExpect(collected, static_cast<uint32_t>(4 * p.tiles * p.channels));
    held.fetch(copied);
  }
  __syncwarp();
  const HeldResponse<T, kVectors> response(p);
  if constexpr (kProjects) {
    shareProxies(tile, proxies);
    __syncthreads();
  }

  {
    const RowAffines<Tile, kVectors> ahead(tile);
    float squares[kVectors][kNormVector] = {};
    for (int base = 0; base < held.count; base += step) {  // whole warps: they meet in shuffles
      if (base % held.perCopy == 0) barrierWait(copied + 8 * (base / held.perCopy), 0);
      const int first = base + tile.group;
      Vector values[kRows][kVectors];
      Statistics positions[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) held.read(first + r * tile.groups, values[r]);
      if constexpr (kProjects) {
        project(tile, proxies, first, values);
#pragma unroll
        for (int r = 0; r < kRows; ++r) held.write(first + r * tile.groups, values[r]);
      }
      tile.statisticsOf(values, positions);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int row = first + r * tile.groups;
        if (row >= held.count) break;
        if (tile.lane == 0) statistics[row] = positions[r];
        tile.forEach([&](int i, int j) {
          const float z = normalised(toFloat(values[r][i].values[j]), positions[r], ahead.of(i, j));
          squares[i][j] = fmaf(z, z, squares[i][j]);
        });
      }
    }
    const int warp = thread / kWarpSize;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      for (int other = p.lanes; other < kWarpSize; other *= 2) {
#pragma unroll
        for (int j = 0; j < kNormVector; ++j) {
          squares[i][j] += __shfl_xor_sync(kFullMask, squares[i][j], other);
        }
      }
    }
    if (thread % kWarpSize < p.lanes) {
      tile.forEach(
          [&](int i, int j) { warpSums[warp * p.pitch + tile.channel(i) + j] = squares[i][j]; });
    }
  }
  __syncthreads();
  clusterWait();
  const auto rank = static_cast<int>(clusterRank());
  for (int c = thread; c < p.channels; c += threads) {
    const float sum = sumOfRows(warpSums, threads / kWarpSize, p.pitch, c);
    const uint32_t target = sharedAddress(sums + rank * p.channels + c);
    for (int other = 0; other < p.tiles; ++other) {
      storeRemote(clusterAddress(target, other), sum, clusterAddress(collected, other));
    }
  }
  barrierWaitCluster(collected, 0);
  response.respond(sums, affines);

#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (tile.channel(i) >= p.pitch) break;
    Affine own[kNormVector] = {};  // 0 behind the last channel
#pragma unroll
    for (int j = 0; j < kNormVector; ++j) {
      if (tile.channel(i) + j < p.channels) own[j] = affines[tile.channel(i) + j];
    }
#pragma unroll 4
    for (int row = tile.group; row < held.count; row += tile.groups) {
      const Statistics position = statistics[row];
      const Vector value = *held.at(row, i);
      Vector result{};
#pragma unroll
      for (int j = 0; j < kNormVector; ++j) {
        if (tile.channel(i) + j >= p.channels) break;
        result.values[j] = fromFloat<T>(normalised(toFloat(value.values[j]), position, own[j]));
      }
      tile.write(tile.begin + row, i, result);
    }
  }
#endif
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_NORM_HELD_CUH_
