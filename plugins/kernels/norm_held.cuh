// gspn2_channel_norm with a response on GSPN2_NHWC8, in one launch: a cluster of blocks has a batch
// item, and holds it in registers from the one read to the one write. The blocks send each other
// their sums of squares. Compute capability 9.0 and later.
#ifndef GSPN2_KERNELS_NORM_HELD_CUH_
#define GSPN2_KERNELS_NORM_HELD_CUH_

#include "norm_project.cuh"
#include "norm_rows.cuh"

namespace gspn2 {

constexpr int kHeldThreads = 512;
constexpr int kHeldMostVectors = 4;  // of a row, to a lane
constexpr int kHeldMost = 16;        // vectors of all rows, to a lane
constexpr int kHeldFew = 4;          // the same where there are fewer

// Of shared memory, in floats: the sums of every block of the cluster, (tiles, C), those of this
// block's groups, (groups, pitch), the statistics of the tile's rows, and its proxies, (P, tile).
struct HeldLayout {
  int groupSums, statistics, proxies, size;

  __host__ __device__ HeldLayout(const NormParams& p, int groups, int rows)
      : groupSums((p.tiles * p.channels + 3) / 4 * 4),
        statistics(groupSums + groups * p.pitch),
        proxies(statistics + 2 * groups * rows),
        size(proxies + p.proxies * p.tile) {}
};

template <typename T, int kVectors, bool kProjects, int kRows>
__global__ void __launch_bounds__(kHeldThreads, 1)
    normHeldKernel(const __grid_constant__ NormParams p) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  using Tile = RowTile<T, kVectors>;
  using Vector = typename Tile::Vector;
  struct Barrier {
    uint64_t collected;  // every block's sums
  };
  const uint32_t collected = sharedAddress(&staticShared<Barrier>().collected);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) barrierInit(collected, 1);
  barrierInitFence();
  __syncthreads();
  clusterArrive();  // the others send only after this block's barrier exists
  if (thread == 0) {
    barrierArriveExpect(collected, static_cast<uint32_t>(4 * p.tiles * p.channels));
  }
  __syncwarp();
  waitForPreviousKernel();

  const Tile tile(p);
  const HeldLayout layout(p, tile.groups, kRows);
  float* const sums = dynamicShared<float>();
  float* const groupSums = sums + layout.groupSums;
  auto* const positions = reinterpret_cast<Statistics*>(sums + layout.statistics) + tile.group;
  const int64_t first = tile.begin + tile.group;
  Vector values[kRows][kVectors];
#pragma unroll
  for (int r = 0; r < kRows; ++r) tile.read(first + r * tile.groups, values[r]);
  if constexpr (kProjects) {
    float* const proxies = sums + layout.proxies;
    shareProxies(tile, proxies);
    __syncthreads();
    project(tile, proxies, values);
  }
  {
    const RowAffines<Tile, kVectors> affines(tile);
    float squares[kVectors][kNormVector] = {};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (tile.begin + r * tile.groups >= tile.end) break;  // for every group
      const Statistics position = tile.statisticsOf(values[r]);
      if (first + r * tile.groups >= tile.end) continue;
      if (tile.lane == 0) positions[r * tile.groups] = position;
      tile.forEach([&](int i, int j) {
        const float z = normalised(toFloat(values[r][i].values[j]), position, affines.of(i, j));
        squares[i][j] = fmaf(z, z, squares[i][j]);
      });
    }
    tile.forEach([&](int i, int j) {
      groupSums[tile.group * p.pitch + tile.channel(i) + j] = squares[i][j];
    });
  }
  __syncthreads();
  clusterWait();
  const auto rank = static_cast<int>(clusterRank());
  for (int c = thread; c < p.channels; c += kHeldThreads) {
    const float sum = sumOfGroups(tile, groupSums, c);
    const uint32_t target = sharedAddress(sums + rank * p.channels + c);
    for (int other = 0; other < p.tiles; ++other) {
      storeRemote(clusterAddress(target, other), sum, clusterAddress(collected, other));
    }
  }
  barrierWaitCluster(collected, 0);
  auto* const affines = reinterpret_cast<Affine*>(groupSums);
  __syncthreads();  // groupSums are read
  respond<T>(p, sums, affines);

#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (tile.channel(i) >= p.pitch) break;
    Affine own[kNormVector] = {};  // 0 behind the last channel
#pragma unroll
    for (int j = 0; j < kNormVector; ++j) {
      if (tile.channel(i) + j < p.channels) own[j] = affines[tile.channel(i) + j];
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = first + r * tile.groups;
      if (at >= tile.end) break;
      const Statistics position = positions[r * tile.groups];
      Vector result{};
#pragma unroll
      for (int j = 0; j < kNormVector; ++j) {
        if (tile.channel(i) + j >= p.channels) break;
        result.values[j] =
            fromFloat<T>(normalised(toFloat(values[r][i].values[j]), position, own[j]));
      }
      tile.write(at, i, result);
    }
  }
#endif
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_NORM_HELD_CUH_
