// gspn2_channel_norm on GSPN2_NCHW: a channel's positions are a plane. kLanes adjacent lanes, a
// worker, have kPositions adjacent positions each, and take every so many-th channel: up to
// kChannels in registers or, where that is 0, read anew for every pass.
#ifndef GSPN2_KERNELS_NORM_PLANES_CUH_
#define GSPN2_KERNELS_NORM_PLANES_CUH_

#include "norm_common.cuh"

namespace gspn2 {

constexpr int kPlaneWarps = 32;  // of a block, at most
constexpr int kPlaneThreads = kPlaneWarps * kWarpSize;
constexpr int kMostPositions = 64;  // that a block has at once
constexpr int kMostHeld = 1024;     // channels of which a block holds scale and shift
constexpr int kPlanesAtOnce = 8;    // channels whose loads are under way together

// Of `count` values: the mean, and the sum of squared differences from it.
struct Moments {
  float count, mean, squares;
};

// Source: Chan, Golub and LeVeque (1979).
__device__ __forceinline__ Moments join(const Moments& a, const Moments& b) {
  const float count = a.count + b.count;
  const float share = count > 0.0F ? b.count / count : 0.0F;
  const float apart = b.mean - a.mean;
  return {count, fmaf(apart, share, a.mean),
          fmaf(apart * apart, a.count * share, a.squares + b.squares)};
}

// With the lane that is `other` away, by exclusive or.
__device__ __forceinline__ Moments joinAcross(const Moments& own, int other) {
  return join(own, {__shfl_xor_sync(kFullMask, own.count, other),
                    __shfl_xor_sync(kFullMask, own.mean, other),
                    __shfl_xor_sync(kFullMask, own.squares, other)});
}

struct PlaneShared {
  Moments moments[kMostPositions][kPlaneWarps + 1];  // padded: warps write columns, and read rows
  Statistics positions[kMostPositions];
  float scales[kMostHeld], shifts[kMostHeld];
  float squares[kMostHeld];

  __device__ __forceinline__ Affines affines() { return {scales, shifts}; }
};

template <int kLanes, int kPositions>
struct PlaneTile : NormTile {
  static constexpr int kWorkers = kWarpSize / kLanes;  // of a warp
  static constexpr int kStep = kLanes * kPositions;    // positions that a block has at once

  const NormParams& p;
  int warp, warps;
  int lane;             // of the worker
  int worker, workers;  // of the block
  int count;            // channels of the worker

  __device__ __forceinline__ explicit PlaneTile(const NormParams& params)
      : NormTile(params),
        p(params),
        warp(static_cast<int>(threadIdx.x) / kWarpSize),
        warps(static_cast<int>(blockDim.x) / kWarpSize),
        lane(static_cast<int>(threadIdx.x) % kLanes),
        worker(static_cast<int>(threadIdx.x) / kLanes),
        workers(static_cast<int>(blockDim.x) / kLanes),
        count((p.channels - worker + workers - 1) / workers) {}

  __device__ __forceinline__ int channel(int i) const { return worker + i * workers; }
  // Elements before a position of the i-th channel.
  __device__ __forceinline__ int64_t offset(int64_t position, int i) const {
    return (n * p.channels + channel(i)) * p.plane + position;
  }
};

// Joins the workers' moments of each position, and leaves the statistics in shared memory.
template <int kLanes, int kPositions>
__device__ __forceinline__ void shareStatistics(const PlaneTile<kLanes, kPositions>& tile,
                                                Moments (&moments)[kPositions],
                                                PlaneShared& shared) {
  using Tile = PlaneTile<kLanes, kPositions>;
  const NormParams& p = tile.p;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int j = 0; j < kPositions; ++j) {
#pragma unroll
    for (int other = kLanes; other < kWarpSize; other *= 2) {
      moments[j] = joinAcross(moments[j], other);
    }
    if (lane < kLanes) shared.moments[lane * kPositions + j][tile.warp] = moments[j];
  }
  __syncthreads();
  const auto share = [&](int at, const Moments& whole) {
    shared.positions[at] = {whole.mean,
                            rsqrtf(whole.squares / static_cast<float>(p.channels) + p.epsilon)};
  };
  if constexpr (kLanes < kWarpSize) {  // few positions: a warp to each
    for (int at = tile.warp; at < Tile::kStep; at += tile.warps) {
      Moments whole = lane < tile.warps ? shared.moments[at][lane] : Moments{};
#pragma unroll
      for (int other = kWarpSize / 2; other > 0; other /= 2) whole = joinAcross(whole, other);
      if (lane == 0) share(at, whole);
    }
  } else {  // a thread to each
    for (int at = static_cast<int>(threadIdx.x); at < Tile::kStep;
         at += static_cast<int>(blockDim.x)) {
      const auto& parts = shared.moments[at];
      Moments whole{static_cast<float>(p.channels), 0.0F, 0.0F};
      for (int warp = 0; warp < tile.warps; ++warp) {
        whole.mean = fmaf(parts[warp].count, parts[warp].mean, whole.mean);
      }
      whole.mean /= whole.count;
      for (int warp = 0; warp < tile.warps; ++warp) {
        const float apart = parts[warp].mean - whole.mean;
        whole.squares += fmaf(parts[warp].count * apart, apart, parts[warp].squares);
      }
      share(at, whole);
    }
  }
  __syncthreads();
}

// The statistics of the tile's positions; then the results, or each channel's sum of squares.
template <typename T, int kLanes, int kPositions, int kChannels, NormStage kStage>
__device__ __forceinline__ void normPlanes(const PlaneTile<kLanes, kPositions>& tile) {
  using Tile = PlaneTile<kLanes, kPositions>;
  using Access = AlignedVector<T, kPositions>;
  constexpr bool kPlain = kStage == NormStage::kPlain;
  constexpr bool kHolds = kChannels > 0;
  const NormParams& p = tile.p;
  auto& shared = *dynamicShared<PlaneShared>();
  float* const sums = p.squares + int64_t{blockIdx.x} * p.channels;
  if constexpr (kHolds) {
    for (int c = static_cast<int>(threadIdx.x); c < p.channels; c += static_cast<int>(blockDim.x)) {
      shared.affines().set(c, affineOf<T>(p, c));
      if constexpr (kStage == NormStage::kWhole) shared.squares[c] = 0.0F;
    }
  }
  for (int64_t base = tile.begin; base < tile.end; base += Tile::kStep) {
    const int64_t position = base + tile.lane * kPositions;
    const bool inside = position < tile.end;
    const auto read = [&](int i) {
      return inside ? *reinterpret_cast<const Access*>(static_cast<const T*>(p.x) +
                                                       tile.offset(position, i))
                    : Access{};
    };
    Access held[kHolds ? kChannels : 1];
    if constexpr (kHolds) {
#pragma unroll
      for (int i = 0; i < kChannels; ++i) {
        if (i < tile.count) held[i] = read(i);
      }
    }
    // Calls `each` with the values of the worker's channels, in turn.
    const auto forEach = [&](const auto& each) {
      if constexpr (kHolds) {
#pragma unroll
        for (int i = 0; i < kChannels; ++i) {
          if (i < tile.count) each(i, held[i]);
        }
      } else {
        for (int i = 0; i < tile.count; ++i) each(i, read(i));
      }
    };
    Moments moments[kPositions] = {};
    forEach([&](int, const Access& values) {
#pragma unroll
      for (int j = 0; j < kPositions; ++j) moments[j].mean += toFloat(values.values[j]);
    });
#pragma unroll
    for (int j = 0; j < kPositions; ++j) {
      moments[j].count = static_cast<float>(tile.count);
      if (tile.count > 0) moments[j].mean /= moments[j].count;
    }
    forEach([&](int, const Access& values) {
#pragma unroll
      for (int j = 0; j < kPositions; ++j) {
        const float apart = toFloat(values.values[j]) - moments[j].mean;
        moments[j].squares = fmaf(apart, apart, moments[j].squares);
      }
    });
    shareStatistics(tile, moments, shared);
    Statistics statistics[kPositions];
#pragma unroll
    for (int j = 0; j < kPositions; ++j) {
      statistics[j] = shared.positions[tile.lane * kPositions + j];
      if (!kPlain && tile.worker == 0 && inside) {
        p.statistics[tile.n * p.plane + position + j] = statistics[j];
      }
    }
    forEach([&](int i, const Access& values) {
      const int channel = tile.channel(i);
      const Affine affine = kHolds ? shared.affines()[channel] : affineOf<T>(p, channel);
      Access results;
      float squares = 0.0F;
#pragma unroll
      for (int j = 0; j < kPositions; ++j) {
        const float z = normalised(toFloat(values.values[j]), statistics[j], affine);
        results.values[j] = fromFloat<T>(z);
        squares = fmaf(z, z, squares);
      }
      if constexpr (kPlain) {
        if (inside) {
          *reinterpret_cast<Access*>(static_cast<T*>(p.y) + tile.offset(position, i)) = results;
        }
      } else {
        // The worker's lanes alone: another one may have no such channel.
        const unsigned mask = kLanes == kWarpSize ? kFullMask
                                                  : ((1U << kLanes % kWarpSize) - 1U)
                                                        << (tile.worker % Tile::kWorkers * kLanes);
        squares = laneSum<kLanes>(inside ? squares : 0.0F, mask);
        if (tile.lane == 0) {
          if constexpr (kStage == NormStage::kWhole) {
            shared.squares[channel] += squares;
          } else {
            sums[channel] = squares;
          }
        }
      }
    });
    if constexpr (kStage != NormStage::kWhole) break;  // one step has the tile
  }
  if constexpr (kStage == NormStage::kWhole) {
    __syncthreads();
    for (int c = static_cast<int>(threadIdx.x); c < p.channels; c += static_cast<int>(blockDim.x)) {
      sums[c] = shared.squares[c];
    }
  }
}

// The results, of the statistics and of `affines` (C).
template <typename T, int kLanes, int kPositions>
__device__ __forceinline__ void scalePlanes(const PlaneTile<kLanes, kPositions>& tile,
                                            const Affines& affines) {
  using Tile = PlaneTile<kLanes, kPositions>;
  using Access = AlignedVector<T, kPositions>;
  const NormParams& p = tile.p;
  for (int64_t position = tile.begin + tile.lane * kPositions; position < tile.end;
       position += Tile::kStep) {
    Statistics statistics[kPositions];
#pragma unroll
    for (int j = 0; j < kPositions; ++j) {
      statistics[j] = p.statistics[tile.n * p.plane + position + j];
    }
    for (int begin = 0; begin < tile.count; begin += kPlanesAtOnce) {
      // All loads ahead of the stores, which the compiler does not move them over.
      Access values[kPlanesAtOnce];
      Affine channels[kPlanesAtOnce];
#pragma unroll
      for (int i = 0; i < kPlanesAtOnce; ++i) {
        if (begin + i >= tile.count) break;
        values[i] = *reinterpret_cast<const Access*>(static_cast<const T*>(p.x) +
                                                     tile.offset(position, begin + i));
        channels[i] = affines[tile.channel(begin + i)];
      }
#pragma unroll
      for (int i = 0; i < kPlanesAtOnce; ++i) {
        if (begin + i >= tile.count) break;
#pragma unroll
        for (int j = 0; j < kPositions; ++j) {
          values[i].values[j] =
              fromFloat<T>(normalised(toFloat(values[i].values[j]), statistics[j], channels[i]));
        }
        *reinterpret_cast<Access*>(static_cast<T*>(p.y) + tile.offset(position, begin + i)) =
            values[i];
      }
    }
  }
}

template <typename T, int kLanes, int kPositions, int kChannels, NormStage kStage>
__global__ void __launch_bounds__(kPlaneThreads)
    normPlanesKernel(const __grid_constant__ NormParams p) {
  waitForPreviousKernel();
  const PlaneTile<kLanes, kPositions> tile(p);
  normPlanes<T, kLanes, kPositions, kChannels, kStage>(tile);
  if constexpr (kHopper && kStage == NormStage::kWhole) {
    clusterSync();  // the sums of all its blocks are there
    const Affines affines = dynamicShared<PlaneShared>()->affines();
    respond<T>(p, squaresOf(p, tile.n), affines);
    scalePlanes<T>(tile, affines);
  }
}

template <typename T, int kLanes, int kPositions>
__global__ void __launch_bounds__(kPlaneThreads)
    scalePlanesKernel(const __grid_constant__ NormParams p) {
  waitForPreviousKernel();
  const PlaneTile<kLanes, kPositions> tile(p);
  scalePlanes<T>(tile, affinesOf(p, tile.n));
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_NORM_PLANES_CUH_
