// The skip terms of GspnProp2D, m d x over the four directions, with which the strips' sums begin.
#ifndef GSPN2_KERNELS_STRIP_SKIPS_CUH_
#define GSPN2_KERNELS_STRIP_SKIPS_CUH_

#include <cstdint>

#include "common.cuh"

namespace gspn2 {

// Of one slice.
template <typename T>
struct SkipTerms {
  static constexpr int kDirections = 4;
  const T *x, *d;
  int64_t stride;  // elements between two directions' d
  float merge[kDirections];

  // `batch`: planes of d from one batch item to the next.
  __device__ __forceinline__ SkipTerms(const void* x_, const void* d_, const void* m, int64_t slice,
                                       int channels, int64_t plane, int64_t batch)
      : stride(channels * plane) {
    const int64_t n = slice / channels;
    const int64_t c = slice - n * channels;
    x = static_cast<const T*>(x_) + slice * plane;
    d = static_cast<const T*>(d_) + (n * batch + c) * plane;
#pragma unroll
    for (int k = 0; k < kDirections; ++k) merge[k] = mergeWeight<T>(m, k);
  }

  // Those of the adjacent elements from `at` on.
  template <int kVector>
  __device__ __forceinline__ AlignedVector<float, kVector> sums(int64_t at) const {
    using Elements = AlignedVector<T, kVector>;
    const auto xs = *reinterpret_cast<const Elements*>(x + at);
    Elements ds[kDirections];
#pragma unroll
    for (int k = 0; k < kDirections; ++k) {
      ds[k] = *reinterpret_cast<const Elements*>(d + k * stride + at);
    }
    AlignedVector<float, kVector> results;
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      results.values[v] = 0.0F;
#pragma unroll
      for (int k = 0; k < kDirections; ++k) {
        results.values[v] += merge[k] * (toFloat(ds[k].values[v]) * toFloat(xs.values[v]));
      }
    }
    return results;
  }
};

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_SKIPS_CUH_
