// The sums of directions that ran side by side, rounded into y: a pass at the memory's speed.
#include <algorithm>
#include <cstdint>

#include "by_dtype.h"
#include "common.cuh"
#include "launch.cuh"
#include "strip_layout.h"
#include "strip_plan.h"
#include "validate.h"

namespace gspn2 {
namespace {

constexpr int kBlock = 256;
constexpr int64_t kMaxBlocks = int64_t{1} << 30;
constexpr int kDirections = kDirectionCount;
constexpr int kVector = 4;  // sums of an access

}  // namespace

struct MergeParams {
  const float* sums;
  void* y;
  int64_t stride;    // floats from a direction's sums to the next one's
  int64_t elements;  // of y, a multiple of an access of sums
};

template <typename T>
__global__ void __launch_bounds__(kBlock) stripMergeKernel(const __grid_constant__ MergeParams p) {
  using Sums = AlignedVector<float, kVector>;
  const int64_t step = int64_t{gridDim.x} * kBlock * kVector;
  for (int64_t i = (int64_t{blockIdx.x} * kBlock + threadIdx.x) * kVector; i < p.elements;
       i += step) {
    Sums sums[kDirections];
#pragma unroll
    for (int k = 0; k < kDirections; ++k) {
      sums[k] = *reinterpret_cast<const Sums*>(p.sums + k * p.stride + i);
    }
    AlignedVector<T, kVector> rounded;
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      // In the order in which directions that follow each other are added.
      float sum = sums[0].values[v];
#pragma unroll
      for (int k = 1; k < kDirections; ++k) sum += sums[k].values[v];
      rounded.values[v] = fromFloat<T>(sum);
    }
    *reinterpret_cast<AlignedVector<T, kVector>*>(static_cast<T*>(p.y) + i) = rounded;
  }
}

namespace {

template <typename T>
cudaError_t launch(const Prop2dCall& call, const float* sums, int64_t stride) {
  const gspn2_problem_t& problem = call.problem;
  MergeParams params{};
  params.sums = sums;
  params.y = call.y;
  params.stride = stride;
  params.elements = problem.n * problem.c * problem.h * problem.w;
  const int64_t wanted = (params.elements / kVector + kBlock - 1) / kBlock;
  return launchKernel(stripMergeKernel<T>,
                      static_cast<unsigned>(std::clamp<int64_t>(wanted, 1, kMaxBlocks)), kBlock, 0,
                      call.stream, params);
}

}  // namespace

cudaError_t launchStripMerge(const Prop2dCall& call, const float* sums, int64_t stride) {
  return launchByDtype(call.problem.dtype, launch<float>, launch<__half>, launch<__nv_bfloat16>,
                       call, sums, stride);
}

}  // namespace gspn2
