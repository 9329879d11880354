// The instances of GspnProp2D in one pass by strips, for one dtype.
#ifndef GSPN2_KERNELS_STRIP_FUSED_LAUNCH_CUH_
#define GSPN2_KERNELS_STRIP_FUSED_LAUNCH_CUH_

#include "launch.cuh"
#include "strip_fused.cuh"
#include "strip_launch.cuh"

namespace gspn2 {

template <typename T>
cudaError_t launchFused(const Prop2dCall& call, const FusedPlan& plan) {
  const FusedParams params = fusedParams(call, plan);
  const auto launch = [&](auto* kernel) {
    return launchClusters(kernel,
                          static_cast<unsigned>(call.problem.n * call.problem.c * plan.parts),
                          static_cast<unsigned>((params.walkers + kFusedProducers) * kWarpLanes),
                          static_cast<unsigned>(plan.parts), static_cast<size_t>(plan.sharedBytes),
                          call.stream, params);
  };
  if (plan.weightBytes != static_cast<int>(sizeof(T))) {  // weights in float32
    return launch(stripFusedKernel<FusedConfig<T, float, GSPN2_NORMALIZE_NONE>>);
  }
  return withNormalisation(call.problem.normalize, [&](auto normalize) {
    return launch(stripFusedKernel<FusedConfig<T, T, decltype(normalize)::value>>);
  });
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_FUSED_LAUNCH_CUH_
