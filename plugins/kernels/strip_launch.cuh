// Host side of the strip scan: from a call and a plan to the kernel's instance, for one dtype.
#ifndef GSPN2_KERNELS_STRIP_LAUNCH_CUH_
#define GSPN2_KERNELS_STRIP_LAUNCH_CUH_

#include "strip_plan.h"
#include "strip_scan.cuh"

namespace gspn2 {

template <typename T, int kRows, bool kReverse, gspn2_normalize_t kNormalize>
cudaError_t launchStripScan(const LineScanCall& call, const StripPlan& plan) {
  const gspn2_problem_t& problem = call.problem;
  StripParams params{};
  params.x = call.x;
  params.lam = call.lam;
  params.w = call.w;
  params.h = call.h;
  params.plane = problem.h * problem.w;
  params.line = static_cast<int>(problem.h);
  params.steps = static_cast<int>(problem.w);
  params.chunk = problem.chunk == 0 || problem.chunk > problem.w ? params.steps
                                                                 : static_cast<int>(problem.chunk);
  params.channels = static_cast<int>(problem.c);
  params.affinities = static_cast<int>(problem.g);
  params.own = plan.own;
  params.parts = plan.parts;
  params.warps = plan.warps;
  params.producers = plan.producers;
  params.stages = plan.stages;
  const int shared = stripLayout(kRows, plan.warps, plan.stages).total;
  const auto kernel = stripScanKernel<T, kReverse, kNormalize, kRows>;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(plan.parts), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(problem.n * problem.c * plan.parts));
  config.blockDim = dim3(static_cast<unsigned>((plan.warps + plan.producers) * kWarpSize));
  config.dynamicSmemBytes = static_cast<size_t>(shared);
  config.stream = call.stream;
  config.attrs = &attribute;
  config.numAttrs = plan.parts > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, params);
}

template <typename T, int kRows, bool kReverse>
cudaError_t dispatchStripMode(const LineScanCall& call, const StripPlan& plan) {
  switch (call.problem.normalize) {
    case GSPN2_NORMALIZE_NONE:
      return launchStripScan<T, kRows, kReverse, GSPN2_NORMALIZE_NONE>(call, plan);
    case GSPN2_NORMALIZE_SIGMOID:
      return launchStripScan<T, kRows, kReverse, GSPN2_NORMALIZE_SIGMOID>(call, plan);
    case GSPN2_NORMALIZE_SOFTMAX:
      return launchStripScan<T, kRows, kReverse, GSPN2_NORMALIZE_SOFTMAX>(call, plan);
  }
  return cudaErrorNotSupported;
}

template <typename T, int kRows>
cudaError_t dispatchStripDirection(const LineScanCall& call, const StripPlan& plan) {
  if (call.direction == GSPN2_LEFT_TO_RIGHT) return dispatchStripMode<T, kRows, false>(call, plan);
  if (call.direction == GSPN2_RIGHT_TO_LEFT) return dispatchStripMode<T, kRows, true>(call, plan);
  return cudaErrorNotSupported;
}

template <typename T>
cudaError_t dispatchStripScan(const LineScanCall& call, const StripPlan& plan) {
  switch (plan.rows) {
    case 1:
      return dispatchStripDirection<T, 1>(call, plan);
    case 2:
      return dispatchStripDirection<T, 2>(call, plan);
    case 3:
      return dispatchStripDirection<T, 3>(call, plan);
    default:
      return cudaErrorNotSupported;
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_LAUNCH_CUH_
