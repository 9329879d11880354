// The strips' sums where there are skip gates: a pass of its own, at the memory's speed.
#include <algorithm>
#include <cstdint>

#include "by_dtype.h"
#include "common.cuh"
#include "launch.cuh"
#include "strip_layout.h"
#include "strip_plan.h"

namespace gspn2 {
namespace {

constexpr int kBlock = 256;
constexpr int64_t kMaxBlocks = int64_t{1} << 30;

}  // namespace

template <typename T>
constexpr int kSkipVector = kStripAccess / static_cast<int>(sizeof(T));  // elements of an access

struct SkipParams {
  const void *x, *d, *m;  // m may be null
  float* sums;
  int64_t plane;  // elements of a map
  int64_t batch;  // planes of d from one batch item to the next
  int channels;
  int blocks;  // of a map
};

// m d x of one slice.
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

template <typename T>
__global__ void __launch_bounds__(kBlock) skipSumsKernel(const __grid_constant__ SkipParams p) {
  constexpr int kVector = kSkipVector<T>;
  const int64_t slice = static_cast<int64_t>(blockIdx.x) / p.blocks;
  const int64_t first = static_cast<int64_t>(blockIdx.x) - slice * p.blocks;
  const SkipTerms<T> terms(p.x, p.d, p.m, slice, p.channels, p.plane, p.batch);
  float* const sums = p.sums + slice * p.plane;
  for (int64_t i = (first * kBlock + threadIdx.x) * kVector; i < p.plane;
       i += int64_t{p.blocks} * kBlock * kVector) {
    *reinterpret_cast<AlignedVector<float, kVector>*>(sums + i) = terms.template sums<kVector>(i);
  }
}

namespace {

template <typename T>
cudaError_t launch(const Prop2dCall& call, float* sums) {
  const gspn2_problem_t& problem = call.problem;
  const int64_t slices = problem.n * problem.c;
  SkipParams params{};
  params.x = call.x;
  params.d = call.d;
  params.m = call.m;
  params.sums = sums;
  params.plane = problem.h * problem.w;
  params.batch = call.strides.gates / params.plane;
  params.channels = static_cast<int>(problem.c);
  const int64_t wanted = (params.plane / kSkipVector<T> + kBlock - 1) / kBlock;
  params.blocks = static_cast<int>(std::clamp<int64_t>(wanted, 1, kMaxBlocks / slices));
  return launchKernel(skipSumsKernel<T>, static_cast<unsigned>(slices * params.blocks), kBlock, 0,
                      call.stream, params);
}

}  // namespace

cudaError_t launchStripSkips(const Prop2dCall& call, float* sums) {
  return launchByDtype(call.problem.dtype, launch<float>, launch<__half>, launch<__nv_bfloat16>,
                       call, sums);
}

}  // namespace gspn2
