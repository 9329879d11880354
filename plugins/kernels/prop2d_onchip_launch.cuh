// The instances of GspnProp2D on chip, for one dtype.
#ifndef GSPN2_KERNELS_PROP2D_ONCHIP_LAUNCH_CUH_
#define GSPN2_KERNELS_PROP2D_ONCHIP_LAUNCH_CUH_

#include <algorithm>
#include <cstdint>

#include "launch.cuh"
#include "onchip_plan.h"
#include "planes.h"
#include "prop2d_block.cuh"
#include "prop2d_cluster.cuh"

namespace gspn2 {

inline OnchipParams onchipParams(const Prop2dCall& call, const OnchipPlan& plan) {
  const gspn2_problem_t& problem = call.problem;
  const int64_t longest = std::max(problem.h, problem.w);
  OnchipParams params{};
  params.x = call.x;
  params.lam = call.lam;
  params.w = call.w;
  params.u = call.u;
  params.d = call.d;
  params.m = call.m;
  params.y = call.y;
  params.featureBatch = call.strides.x / (problem.h * problem.w);
  params.gateBatch = call.strides.gates / (problem.h * problem.w);
  params.affinityBatch = call.strides.w / (problem.h * problem.w);
  params.height = static_cast<int>(problem.h);
  params.width = static_cast<int>(problem.w);
  params.channels = static_cast<int>(problem.c);
  params.affinities = static_cast<int>(problem.g);
  params.array = plan.array;
  params.chunk = static_cast<int>(std::min(problem.chunk, longest + 1));
  params.normalize = problem.normalize;
  params.workers = plan.workers;
  params.relay = plan.relay;
  params.position = static_cast<int>(call.strides.position);
  return params;
}

template <typename T, int kVector, int kChannels>
cudaError_t launchOnchip(const Prop2dCall& call, const OnchipPlan& plan) {
  const auto groups = static_cast<unsigned>(call.problem.n * (call.problem.c / kChannels));
  const auto launch = [&](void (*kernel)(OnchipParams), unsigned blocks, int threads) {
    return launchClusters(kernel, groups * blocks, static_cast<unsigned>(threads), blocks,
                          plan.sharedBytes, call.stream, onchipParams(call, plan), plan.overlaps);
  };
  if (plan.block) {
    return plan.rows == 1 ? launch(prop2dBlockKernel<T, 1, kVector, kChannels>, 1, plan.workers)
                          : launch(prop2dBlockKernel<T, 2, kVector, kChannels>, 1, plan.workers);
  }
  const int threads = plan.workers + kWarpSize;
  if (isInRows(call.strides)) {
    if constexpr (sizeof(T) == 2) {
      return launch(prop2dClusterKernel<T, 2, kVector, kChannels, GSPN2_NHWC8, false>,
                    kOnchipDirections, threads);
    }
    return cudaErrorNotSupported;
  }
  if (plan.rows == 2) {
    return launch(prop2dClusterKernel<T, 2, kVector, kChannels, GSPN2_NCHW, false>,
                  kOnchipDirections, threads);
  }
  if constexpr (kChannels == 1) {
    return launch(!plan.ring       ? prop2dClusterKernel<T, 4, kVector, 1, GSPN2_NCHW, false>
                  : plan.rows == 4 ? prop2dClusterKernel<T, 4, kVector, 1, GSPN2_NCHW, true>
                  : plan.rows == 6 ? prop2dClusterKernel<T, 6, kVector, 1, GSPN2_NCHW, true>
                                   : prop2dClusterKernel<T, 8, kVector, 1, GSPN2_NCHW, true>,
                  static_cast<unsigned>(kOnchipDirections * plan.relay), threads);
  }
  return cudaErrorNotSupported;
}

template <typename T>
cudaError_t dispatchOnchip(const Prop2dCall& call, const OnchipPlan& plan) {
  if (plan.vector == kOnchipVector) {
    return plan.channels == 2 ? launchOnchip<T, kOnchipVector, 2>(call, plan)
                              : launchOnchip<T, kOnchipVector, 1>(call, plan);
  }
  return plan.channels == 2 ? launchOnchip<T, 1, 2>(call, plan) : launchOnchip<T, 1, 1>(call, plan);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_PROP2D_ONCHIP_LAUNCH_CUH_
