// gspn2_channel_norm on GSPN2_NHWC8: a position's channels are a row. A group of `lanes` adjacent
// lanes holds one, kVectors vectors of eight channels each, and a block's groups take the rows of
// its tile in turn, kRows at once.
#ifndef GSPN2_KERNELS_NORM_ROWS_CUH_
#define GSPN2_KERNELS_NORM_ROWS_CUH_

#include "channel_norm.h"
#include "norm_common.cuh"

namespace gspn2 {

constexpr int kRowThreads = 256;
// Blocks that are to fit a multiprocessor at once.
__host__ __device__ constexpr int rowBlocks(int vectors) {
  return vectors == 1 ? 3 : vectors <= 4 ? 2 : 1;
}

template <typename T, int kVectors>
struct RowTile : NormTile {
  static constexpr int kVector = static_cast<int>(kNormVector);
  using Vector = PackedVector<T, kVector>;

  const NormParams& p;
  int lane, group, groups;

  __device__ __forceinline__ explicit RowTile(const NormParams& params)
      : NormTile(params),
        p(params),
        lane(static_cast<int>(threadIdx.x) & (p.lanes - 1)),
        group(static_cast<int>(threadIdx.x) >> p.laneBits),
        groups(static_cast<int>(blockDim.x) >> p.laneBits) {}

  // The first channel of this lane's i-th vector.
  __device__ __forceinline__ int channel(int i) const { return (lane + i * p.lanes) * kVector; }
  // Elements before a position, and before that channel of it.
  __device__ __forceinline__ int64_t rowOffset(int64_t position) const {
    return (n * p.plane + position) * p.pitch;
  }
  __device__ __forceinline__ int64_t offset(int64_t position, int i) const {
    return rowOffset(position) + channel(i);
  }
  // The row of a position; 0 where that is not of the tile.
  __device__ __forceinline__ void read(int64_t position, Vector (&values)[kVectors]) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      values[i] = Vector{};
      if (position < end && channel(i) < p.pitch) {
        values[i] = Vector::read(static_cast<const T*>(p.x) + offset(position, i));
      }
    }
  }
  __device__ __forceinline__ void write(int64_t position, int i, const Vector& values) const {
    if (channel(i) >= p.pitch) return;
    values.write(static_cast<T*>(p.y) + offset(position, i));
  }
  __device__ __forceinline__ void write(int64_t position, const Vector (&values)[kVectors]) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) write(position, i, values[i]);
  }
  // What a tensor (C) has for the i-th vector; behind the last channel 0. kWide: as p.wide.
  template <bool kWide>
  __device__ __forceinline__ Vector readParameters(const void* tensor, int i) const {
    const T* const source = static_cast<const T*>(tensor) + channel(i);
    if constexpr (kWide) {
      return channel(i) < p.channels ? Vector::read(source) : Vector{};
    } else {
      return Vector::read(source, count(i));
    }
  }
  // All bits of the i-th vector's channels, none of what lies behind them.
  __device__ __forceinline__ Vector mask(int i) const {
    Vector bits;
#pragma unroll
    for (int word = 0; word < Vector::kWords; ++word) {
      const int halves = count(i) - 2 * word;
      bits.words[word] = halves > 1 ? 0xffffffffU : halves == 1 ? 0xffffU : 0U;
    }
    return bits;
  }
  // By one row of the launch: to ask for the same lines takes turns.
  __device__ __forceinline__ void prefetchParameters(const void* tensor) const {
    if (blockIdx.x > 0 || group > 0) return;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (channel(i) < p.channels) prefetch(static_cast<const T*>(tensor) + channel(i));
    }
  }
  // How many channels the i-th vector has, eight or none where p.wide.
  __device__ __forceinline__ int count(int i) const {
    return max(0, min(p.channels - channel(i), kVector));
  }
};

// The statistics of rows that a lane has at once, and how far its values are from their means.
template <typename T, int kVectors, int kRows>
struct RowStatistics {
  using Vector = typename RowTile<T, kVectors>::Vector;
  static constexpr int kVector = static_cast<int>(kNormVector);

  Statistics statistics[kRows];
  float apart[kRows][kVectors][kVector];

  // kWide: as tile.p.wide. `masks` (kVectors), as tile.mask() has them, say that the values behind
  // the last channel are 0; without them they may be anything. Every lane of the warp takes part.
  template <bool kWide, bool kMasks = false>
  __device__ __forceinline__ void find(const RowTile<T, kVectors>& tile,
                                       const Vector (&values)[kRows][kVectors],
                                       const Vector* masks = nullptr) {
    const float share = tile.p.share;
    const auto isChannel = [&](int i, int j) { return j < tile.count(i); };
    float sums[kRows] = {};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          apart[r][i][j] = values[r][i][j];  // 0 where a lane has no channels
          if (!kWide && !kMasks && !isChannel(i, j)) apart[r][i][j] = 0.0F;
          sums[r] += apart[r][i][j];
        }
      }
    }
    laneSums(sums, tile.p.lanes);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      statistics[r].mean = sums[r] * share;
      sums[r] = 0.0F;
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        float part = 0.0F;
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          if constexpr (kMasks) {  // factors of -1 and 0 for all rows, no select for each value
            const uint32_t factors = masks[i].words[j / 2] & 0xbf80bf80U;
            const float factor = unpackFloat(factors, j % 2, static_cast<__nv_bfloat16*>(nullptr));
            apart[r][i][j] = fmaf(statistics[r].mean, factor, apart[r][i][j]);
          } else {
            apart[r][i][j] -= statistics[r].mean;
            if (!kWide && !isChannel(i, j)) apart[r][i][j] = 0.0F;
          }
          part = fmaf(apart[r][i][j], apart[r][i][j], part);
        }
        sums[r] += kMasks || tile.count(i) > 0 ? part : 0.0F;
      }
    }
    laneSums(sums, tile.p.lanes);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      statistics[r].scale = rsqrtf(fmaf(sums[r], share, tile.p.epsilon));
    }
  }
  __device__ __forceinline__ float normalised(int r, int i, int j, const Affine& channel) const {
    return fmaf(apart[r][i][j] * statistics[r].scale, channel.scale, channel.shift);
  }
};

// Scale and shift of a lane's channels, as they lie in memory.
template <typename T, int kVectors>
struct RowAffines {
  typename RowTile<T, kVectors>::Vector scales[kVectors], shifts[kVectors];

  __device__ __forceinline__ Affine of(int i, int j) const { return {scales[i][j], shifts[i][j]}; }
};

// The float32 values of a vector's channels, for which the array has room to the last one, aligned.
__device__ __forceinline__ void readFloats(const float* source, float (&values)[kNormVector]) {
  constexpr int kWide = 4;
#pragma unroll
  for (int j = 0; j < static_cast<int>(kNormVector); j += kWide) {
    const auto part = *reinterpret_cast<const AlignedVector<float, kWide>*>(source + j);
#pragma unroll
    for (int k = 0; k < kWide; ++k) values[j + k] = part.values[k];
  }
}
__device__ __forceinline__ void writeFloats(float* target, const float (&values)[kNormVector]) {
  constexpr int kWide = 4;
#pragma unroll
  for (int j = 0; j < static_cast<int>(kNormVector); j += kWide) {
    AlignedVector<float, kWide> part;
#pragma unroll
    for (int k = 0; k < kWide; ++k) part.values[k] = values[j + k];
    *reinterpret_cast<AlignedVector<float, kWide>*>(target + j) = part;
  }
}

// A channel's sum over rows of `pitch` values.
__device__ __forceinline__ float sumOfRows(const float* values, int rows, int pitch, int channel) {
  float sum = 0.0F;
  for (int row = 0; row < rows; ++row) sum += values[row * pitch + channel];
  return sum;
}

// The statistics of the tile's positions; then the results, or each channel's sum of squares.
template <typename T, int kVectors, int kRows, NormStage kStage, bool kWide>
__device__ __forceinline__ void normRows(const RowTile<T, kVectors>& tile) {
  using Tile = RowTile<T, kVectors>;
  using Vector = typename Tile::Vector;
  constexpr bool kPlain = kStage == NormStage::kPlain;
  const NormParams& p = tile.p;
  Vector values[kRows][kVectors];
  const auto read = [&](int64_t first) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) tile.read(first + r * tile.groups, values[r]);
  };
  // The first rows are under way before anything waits for the parameters.
  RowAffines<T, kVectors> affines;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    affines.scales[i] = tile.template readParameters<kWide>(p.scale, i);
    affines.shifts[i] = tile.template readParameters<kWide>(p.shift, i);
  }
  read(tile.begin + tile.group);
  float squares[kPlain ? 1 : kVectors][kNormVector] = {};
  // Whole warps: they meet in shuffles.
  for (int64_t base = tile.begin; base < tile.end; base += tile.groups * kRows) {
    const int64_t first = base + tile.group;
    if (base != tile.begin) read(first);
    RowStatistics<T, kVectors, kRows> rows;
    rows.template find<kWide>(tile, values);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = first + r * tile.groups;
      if (at >= tile.end) continue;
      if (!kPlain && tile.lane == 0) p.statistics[tile.n * p.plane + at] = rows.statistics[r];
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        Vector result;
#pragma unroll
        for (int j = 0; j < Tile::kVector; ++j) {
          const float z = rows.normalised(r, i, j, affines.of(i, j));
          if constexpr (kPlain) {
            result.set(j, kWide || j < tile.count(i) ? z : 0.0F);
          } else {
            squares[i][j] = fmaf(z, z, squares[i][j]);
          }
        }
        if constexpr (kPlain) tile.write(at, i, result);
      }
    }
  }
  if constexpr (!kPlain) {
    float* const groups = dynamicShared<float>();
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (tile.channel(i) >= p.pitch) break;
      writeFloats(groups + tile.group * p.pitch + tile.channel(i), squares[i]);
    }
    __syncthreads();
    float* const sums = p.squares + int64_t{blockIdx.x} * p.channels;
    for (int c = static_cast<int>(threadIdx.x); c < p.channels; c += static_cast<int>(blockDim.x)) {
      sums[c] = sumOfRows(groups, tile.groups, p.pitch, c);
    }
  }
}

template <typename T, int kVectors, int kRows, NormStage kStage>
__global__ void __launch_bounds__(kRowThreads, rowBlocks(kVectors))
    normRowsKernel(const __grid_constant__ NormParams p) {
  const RowTile<T, kVectors> tile(p);
  tile.prefetchParameters(p.scale);
  tile.prefetchParameters(p.shift);
  waitForPreviousKernel();
  if (p.wide) {
    normRows<T, kVectors, kRows, kStage, true>(tile);
  } else {
    normRows<T, kVectors, kRows, kStage, false>(tile);
  }
}

// The results, of the statistics and of the affines (C) of each batch item.
template <typename T, int kVectors, int kRows>
__global__ void __launch_bounds__(kRowThreads, rowBlocks(kVectors))
    scaleRowsKernel(const __grid_constant__ NormParams p) {
  using Tile = RowTile<T, kVectors>;
  using Vector = typename Tile::Vector;
  const Tile tile(p);
  waitForPreviousKernel();
  const Affines affines = affinesOf(p, tile.n);
  float scales[kVectors][kNormVector], shifts[kVectors][kNormVector];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (tile.channel(i) >= p.channels) break;
    if (p.wide) {
      readFloats(affines.scales + tile.channel(i), scales[i]);
      readFloats(affines.shifts + tile.channel(i), shifts[i]);
    } else {
#pragma unroll
      for (int j = 0; j < static_cast<int>(kNormVector); ++j) {
        if (tile.channel(i) + j >= p.channels) break;
        scales[i][j] = affines.scales[tile.channel(i) + j];
        shifts[i][j] = affines.shifts[tile.channel(i) + j];
      }
    }
  }
  for (int64_t first = tile.begin + tile.group; first < tile.end; first += tile.groups * kRows) {
    // All loads ahead of the stores, which the compiler does not move them over.
    Vector values[kRows][kVectors];
    Statistics positions[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) tile.read(first + r * tile.groups, values[r]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = first + r * tile.groups;
      if (at < tile.end) positions[r] = p.statistics[tile.n * p.plane + at];
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = first + r * tile.groups;
      if (at >= tile.end) break;
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        Vector result;
#pragma unroll
        for (int j = 0; j < Tile::kVector; ++j) {
          const float y =
              normalised(values[r][i][j], positions[r], Affine{scales[i][j], shifts[i][j]});
          result.set(j, p.wide || j < tile.count(i) ? y : 0.0F);
        }
        tile.write(at, i, result);
      }
    }
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_NORM_ROWS_CUH_
