// The skip terms of GspnProp2D, m d x over the four directions: what the strip scans' sums begin
// with. A pass of its own, at the memory's speed.
#include <algorithm>
#include <cstdint>

#include "common.cuh"
#include "launch.cuh"
#include "strip_layout.h"
#include "strip_plan.h"

namespace gspn2 {
namespace {

constexpr int kDirections = 4;
constexpr int kBlock = 256;
constexpr int64_t kMaxBlocks = int64_t{1} << 30;

}  // namespace

struct SkipParams {
  const void *x, *d, *m;  // m may be null
  float* sums;
  int64_t plane;  // elements of a map
  int channels;
  int blocks;  // of a map
};

template <typename T>
__global__ void __launch_bounds__(kBlock) skipSumsKernel(const __grid_constant__ SkipParams p) {
  constexpr int kVector = kStripAccess / static_cast<int>(sizeof(T));
  const int64_t slice = static_cast<int64_t>(blockIdx.x) / p.blocks;
  const int64_t n = slice / p.channels;
  const int64_t c = slice - n * p.channels;
  const T* const x = static_cast<const T*>(p.x) + slice * p.plane;
  const T* const d = static_cast<const T*>(p.d) + (n * kDirections * p.channels + c) * p.plane;
  float* const sums = p.sums + slice * p.plane;
  float merge[kDirections];
#pragma unroll
  for (int k = 0; k < kDirections; ++k) {
    merge[k] = p.m == nullptr ? 1.0F : toFloat(static_cast<const T*>(p.m)[k]);
  }
  const int64_t first = static_cast<int64_t>(blockIdx.x) - slice * p.blocks;
  for (int64_t i = (first * kBlock + threadIdx.x) * kVector; i < p.plane;
       i += int64_t{p.blocks} * kBlock * kVector) {
    alignas(16) T xs[kVector], ds[kDirections][kVector];
    *reinterpret_cast<uint4*>(xs) = *reinterpret_cast<const uint4*>(x + i);
#pragma unroll
    for (int k = 0; k < kDirections; ++k) {
      *reinterpret_cast<uint4*>(ds[k]) =
          *reinterpret_cast<const uint4*>(d + k * p.channels * p.plane + i);
    }
    alignas(16) float results[kVector];
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      results[v] = 0.0F;
#pragma unroll
      for (int k = 0; k < kDirections; ++k) {
        results[v] += merge[k] * (toFloat(ds[k][v]) * toFloat(xs[v]));
      }
    }
#pragma unroll
    for (int v = 0; v < kVector; v += 4) {
      *reinterpret_cast<float4*>(sums + i + v) = *reinterpret_cast<const float4*>(results + v);
    }
  }
}

namespace {

template <typename T>
cudaError_t launch(const Prop2dCall& call, float* sums) {
  const gspn2_problem_t& problem = call.problem;
  constexpr int kVector = kStripAccess / static_cast<int>(sizeof(T));
  const int64_t slices = problem.n * problem.c;
  SkipParams params{};
  params.x = call.x;
  params.d = call.d;
  params.m = call.m;
  params.sums = sums;
  params.plane = problem.h * problem.w;
  params.channels = static_cast<int>(problem.c);
  const int64_t wanted = (params.plane / kVector + kBlock - 1) / kBlock;
  params.blocks = static_cast<int>(std::clamp<int64_t>(wanted, 1, kMaxBlocks / slices));
  return launchKernel(skipSumsKernel<T>, static_cast<unsigned>(slices * params.blocks), kBlock, 0,
                      call.stream, params);
}

}  // namespace

cudaError_t launchStripSkips(const Prop2dCall& call, float* sums) {
  switch (call.problem.dtype) {
    case GSPN2_FLOAT32:
      return launch<float>(call, sums);
    case GSPN2_FLOAT16:
      return launch<__half>(call, sums);
    case GSPN2_BFLOAT16:
      return launch<__nv_bfloat16>(call, sums);
  }
  return cudaErrorNotSupported;
}

}  // namespace gspn2
