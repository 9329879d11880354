// gspn2_channel_norm on GSPN2_NHWC8: a position's channels are a row. A group of `lanes` adjacent
// lanes holds one, kVectors vectors of eight channels each, and a block's groups take the rows of
// its tile in turn, kRows at once.
#ifndef GSPN2_KERNELS_NORM_ROWS_CUH_
#define GSPN2_KERNELS_NORM_ROWS_CUH_

#include "channel_norm.h"
#include "norm_common.cuh"

namespace gspn2 {

constexpr int kRowThreads = 256;
// A cluster has a whole batch item, and blocks as large as their registers allow.
__host__ __device__ constexpr int rowThreads(int vectors, NormStage stage) {
  if (stage != NormStage::kWhole || vectors > 4) return kRowThreads;
  return vectors == 1 ? 1024 : 512;
}
// Blocks that are to fit a multiprocessor at once.
__host__ __device__ constexpr int rowBlocks(int vectors, NormStage stage) {
  if (stage == NormStage::kWhole) return 1;
  return vectors == 1 ? 4 : vectors == 2 ? 3 : vectors == 4 ? 2 : 1;
}

template <typename T, int kVectors>
struct RowTile : NormTile {
  static constexpr int kVector = static_cast<int>(kNormVector);
  using Vector = AlignedVector<T, kVector>;

  const NormParams& p;
  int lane, group, groups;

  __device__ __forceinline__ explicit RowTile(const NormParams& params)
      : NormTile(params),
        p(params),
        lane(static_cast<int>(threadIdx.x) % p.lanes),
        group(static_cast<int>(threadIdx.x) / p.lanes),
        groups(static_cast<int>(blockDim.x) / p.lanes) {}

  // The first channel of this lane's i-th vector.
  __device__ __forceinline__ int channel(int i) const { return (lane + i * p.lanes) * kVector; }
  // Elements before that channel of a position.
  __device__ __forceinline__ int64_t offset(int64_t position, int i) const {
    return (n * p.plane + position) * p.pitch + channel(i);
  }
  // The row of a position; 0 where that is not of the tile.
  __device__ __forceinline__ void read(int64_t position, Vector (&values)[kVectors]) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      values[i] = Vector{};
      if (position < end && channel(i) < p.pitch) {
        values[i] =
            *reinterpret_cast<const Vector*>(static_cast<const T*>(p.x) + offset(position, i));
      }
    }
  }
  __device__ __forceinline__ void write(int64_t position, const Vector (&values)[kVectors]) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (channel(i) >= p.pitch) break;
      *reinterpret_cast<Vector*>(static_cast<T*>(p.y) + offset(position, i)) = values[i];
    }
  }
  // What a tensor (C) has for the i-th vector; behind the last channel, any value.
  __device__ __forceinline__ Vector readParameters(const void* tensor, int i) const {
    const T* const source = static_cast<const T*>(tensor) + channel(i);
    if (p.wide && channel(i) + kVector <= p.channels) {
      return *reinterpret_cast<const Vector*>(source);
    }
    Vector values{};
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      if (channel(i) + j < p.channels) values.values[j] = source[j];
    }
    return values;
  }
  // Calls `each` with every vector of this lane and every element of it that is a channel.
  template <typename Each>
  __device__ __forceinline__ void forEach(const Each& each) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (channel(i) + kVector <= p.channels) {
#pragma unroll
        for (int j = 0; j < kVector; ++j) each(i, j);
      } else if (channel(i) < p.channels) {
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          if (channel(i) + j < p.channels) each(i, j);
        }
      }
    }
  }
};

// The statistics of the tile's positions; then the results, or each channel's sum of squares.
template <typename T, int kVectors, int kRows, NormStage kStage>
__device__ __forceinline__ void normRows(const RowTile<T, kVectors>& tile) {
  using Vector = typename RowTile<T, kVectors>::Vector;
  constexpr bool kPlain = kStage == NormStage::kPlain;
  const NormParams& p = tile.p;
  const auto channels = static_cast<float>(p.channels);
  Vector scales[kVectors];
  Vector shifts[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    scales[i] = tile.readParameters(p.scale, i);
    shifts[i] = tile.readParameters(p.shift, i);
  }
  float squares[kPlain ? 1 : kVectors][kNormVector] = {};
  // Whole warps: they meet in shuffles.
  for (int64_t base = tile.begin; base < tile.end; base += tile.groups * kRows) {
    Vector values[kRows][kVectors];
    const int64_t first = base + tile.group;
#pragma unroll
    for (int r = 0; r < kRows; ++r) tile.read(first + r * tile.groups, values[r]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = first + r * tile.groups;
      float sum = 0.0F;
      tile.forEach([&](int i, int j) { sum += toFloat(values[r][i].values[j]); });
      const float mean = laneSum(sum, p.lanes) / channels;
      float apart = 0.0F;
      tile.forEach([&](int i, int j) {
        const float difference = toFloat(values[r][i].values[j]) - mean;
        apart = fmaf(difference, difference, apart);
      });
      const Statistics position = {mean, rsqrtf(laneSum(apart, p.lanes) / channels + p.epsilon)};
      if (at >= tile.end) continue;
      const auto normalise = [&](int i, int j) {
        return normalised(toFloat(values[r][i].values[j]), position,
                          Affine{toFloat(scales[i].values[j]), toFloat(shifts[i].values[j])});
      };
      if constexpr (kPlain) {
        Vector results[kVectors] = {};  // 0 behind the last channel
        tile.forEach([&](int i, int j) { results[i].values[j] = fromFloat<T>(normalise(i, j)); });
        tile.write(at, results);
      } else {
        if (tile.lane == 0) p.statistics[tile.n * p.plane + at] = position;
        tile.forEach([&](int i, int j) {
          const float z = normalise(i, j);
          squares[i][j] = fmaf(z, z, squares[i][j]);
        });
      }
    }
  }
  if constexpr (!kPlain) {
    float* const shared = dynamicShared<float>();  // (groups, pitch)
    tile.forEach(
        [&](int i, int j) { shared[tile.group * p.pitch + tile.channel(i) + j] = squares[i][j]; });
    __syncthreads();
    float* const sums = p.squares + int64_t{blockIdx.x} * p.channels;
    for (int c = static_cast<int>(threadIdx.x); c < p.channels; c += static_cast<int>(blockDim.x)) {
      float sum = 0.0F;
      for (int g = 0; g < tile.groups; ++g) sum += shared[g * p.pitch + c];
      sums[c] = sum;
    }
  }
}

// The results, of the statistics and of `affines` (C).
template <typename T, int kVectors, int kRows>
__device__ __forceinline__ void scaleRows(const RowTile<T, kVectors>& tile, const Affine* affines) {
  using Vector = typename RowTile<T, kVectors>::Vector;
  const NormParams& p = tile.p;
  Affine own[kVectors][kNormVector];
  tile.forEach([&](int i, int j) { own[i][j] = affines[tile.channel(i) + j]; });
  for (int64_t first = tile.begin + tile.group; first < tile.end; first += tile.groups * kRows) {
    // All loads ahead of the stores, which the compiler does not move them over.
    Vector values[kRows][kVectors];
    Statistics positions[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = first + r * tile.groups;
      tile.read(at, values[r]);
      if (at < tile.end) positions[r] = p.statistics[tile.n * p.plane + at];
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = first + r * tile.groups;
      if (at >= tile.end) break;
      Vector results[kVectors] = {};  // 0 behind the last channel
      tile.forEach([&](int i, int j) {
        results[i].values[j] =
            fromFloat<T>(normalised(toFloat(values[r][i].values[j]), positions[r], own[i][j]));
      });
      tile.write(at, results);
    }
  }
}

template <typename T, int kVectors, int kRows, NormStage kStage>
__global__ void __launch_bounds__(rowThreads(kVectors, kStage), rowBlocks(kVectors, kStage))
    normRowsKernel(const __grid_constant__ NormParams p) {
  waitForPreviousKernel();
  const RowTile<T, kVectors> tile(p);
  normRows<T, kVectors, kRows, kStage>(tile);
  if constexpr (kHopper && kStage == NormStage::kWhole) {
    clusterSync();  // the sums of all its blocks are there
    Affine* const affines = dynamicShared<Affine>();
    respond<T>(p, tile.n, affines);
    scaleRows<T, kVectors, kRows>(tile, affines);
  }
}

template <typename T, int kVectors, int kRows>
__global__ void __launch_bounds__(kRowThreads, rowBlocks(kVectors, NormStage::kPlain))
    scaleRowsKernel(const __grid_constant__ NormParams p) {
  waitForPreviousKernel();
  const RowTile<T, kVectors> tile(p);
  scaleRows<T, kVectors, kRows>(tile, p.affines + tile.n * p.channels);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_NORM_ROWS_CUH_
