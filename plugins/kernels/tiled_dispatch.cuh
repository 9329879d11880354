// From a plan to the instance of the tiled scan that it names, for one dtype.
#ifndef GSPN2_KERNELS_TILED_DISPATCH_CUH_
#define GSPN2_KERNELS_TILED_DISPATCH_CUH_

#include "tiled_launch.cuh"

namespace gspn2 {

template <typename T, gspn2_normalize_t kNormalize>
cudaError_t dispatchTiledMode(const LineScanCall& call, const TiledPlan& plan) {
  constexpr int kWarpsPerSide = 16;
  if (!plan.horizontal) {
    return launchTiledScan<TiledConfig<T, false, false, 2, 0, kNormalize, kWarpsPerSide>>(call,
                                                                                          plan);
  }
  const bool reverse = call.direction == GSPN2_RIGHT_TO_LEFT;
  constexpr int kWarps = 9;
  if (plan.tileBytes == 64) {
    return reverse
               ? launchTiledScan<TiledConfig<T, true, true, 1, 64, kNormalize, kWarps>>(call, plan)
               : launchTiledScan<TiledConfig<T, true, false, 1, 64, kNormalize, kWarps>>(call,
                                                                                         plan);
  }
  if (plan.tileBytes == 32) {
    return reverse
               ? launchTiledScan<TiledConfig<T, true, true, 1, 32, kNormalize, kWarps>>(call, plan)
               : launchTiledScan<TiledConfig<T, true, false, 1, 32, kNormalize, kWarps>>(call,
                                                                                         plan);
  }
  return cudaErrorNotSupported;
}

template <typename T>
cudaError_t dispatchTiledScan(const LineScanCall& call, const TiledPlan& plan) {
  switch (call.problem.normalize) {
    case GSPN2_NORMALIZE_NONE:
      return dispatchTiledMode<T, GSPN2_NORMALIZE_NONE>(call, plan);
    case GSPN2_NORMALIZE_SIGMOID:
      return dispatchTiledMode<T, GSPN2_NORMALIZE_SIGMOID>(call, plan);
    case GSPN2_NORMALIZE_SOFTMAX:
      return dispatchTiledMode<T, GSPN2_NORMALIZE_SOFTMAX>(call, plan);
  }
  return cudaErrorNotSupported;
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_TILED_DISPATCH_CUH_
