// The projection that is added to a map ahead of its normalisation, GSPN2_NHWC8.
#ifndef GSPN2_KERNELS_NORM_PROJECT_CUH_
#define GSPN2_KERNELS_NORM_PROJECT_CUH_

#include "norm_rows.cuh"

namespace gspn2 {

// A tile's proxies, (P, tile), into shared memory. Every thread of the block takes part.
template <typename T, int kVectors>
__device__ __forceinline__ void shareProxies(const RowTile<T, kVectors>& tile, float* shared) {
  const NormParams& p = tile.p;
  const T* const source =
      static_cast<const T*>(p.proxy) + tile.n * p.proxies * p.plane + tile.begin;
  const int positions = max(0, static_cast<int>(tile.end - tile.begin));
  // All of them at once where the block has as many threads.
  for (int i = static_cast<int>(threadIdx.x); i < p.proxies * p.tile;
       i += static_cast<int>(blockDim.x)) {
    const int q = i / p.tile;
    const int position = i - q * p.tile;
    if (position < positions) shared[i] = toFloat(source[q * p.plane + position]);
  }
}

// Adds weight proxies + bias to this lane's part of the tile's rows from `first` on. `parameter`
// has the i-th vector of the bias (0) or of a proxy's weights (1 and up).
template <typename T, int kVectors, int kRows, typename Parameter>
__device__ __forceinline__ void project(
    const RowTile<T, kVectors>& tile, const float* proxies, int first, const Parameter& parameter,
    typename RowTile<T, kVectors>::Vector (&values)[kRows][kVectors]) {
  using Vector = typename RowTile<T, kVectors>::Vector;
  const NormParams& p = tile.p;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const Vector bias = parameter(0, i);
    Vector weights[GSPN2_PROJECTION_MAX_CHANNELS];
#pragma unroll
    for (int q = 0; q < GSPN2_PROJECTION_MAX_CHANNELS; ++q) {
      if (q >= p.proxies) break;
      weights[q] = parameter(1 + q, i);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int position = first + r * tile.groups;
      if (tile.begin + position >= tile.end) break;
      float sums[kNormVector];
#pragma unroll
      for (int j = 0; j < kNormVector; ++j) {
        sums[j] = values[r][i][j] + bias[j];
      }
#pragma unroll
      for (int q = 0; q < GSPN2_PROJECTION_MAX_CHANNELS; ++q) {
        if (q >= p.proxies) break;
        const float proxy = proxies[q * p.tile + position];
#pragma unroll
        for (int j = 0; j < kNormVector; ++j) {
          sums[j] = fmaf(weights[q][j], proxy, sums[j]);
        }
      }
#pragma unroll
      for (int j = 0; j < kNormVector; ++j) values[r][i].set(j, sums[j]);
    }
  }
}

// Leaves the sums in y, one row to a group.
template <typename T, int kVectors>
__global__ void __launch_bounds__(kRowThreads, rowBlocks(kVectors))
    projectRowsKernel(const __grid_constant__ NormParams p) {
  const RowTile<T, kVectors> tile(p);
  waitForPreviousKernel();
  float* const proxies = dynamicShared<float>();
  shareProxies(tile, proxies);
  __syncthreads();
  typename RowTile<T, kVectors>::Vector values[1][kVectors];
  tile.read(tile.begin + tile.group, values[0]);
  const auto parameter = [&](int which, int i) {
    const T* const weight = static_cast<const T*>(p.weight) + (which - 1) * p.channels;
    const void* const tensor = which == 0 ? p.bias : weight;
    return p.wide ? tile.template readParameters<true>(tensor, i)
                  : tile.template readParameters<false>(tensor, i);
  };
  project(tile, proxies, tile.group, parameter, values);
  if (tile.begin + tile.group < tile.end) tile.write(tile.begin + tile.group, values[0]);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_NORM_PROJECT_CUH_
