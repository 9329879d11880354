// Host side of the tiled scan, for one dtype: from a call and a plan to a launch.
#ifndef GSPN2_KERNELS_TILED_LAUNCH_CUH_
#define GSPN2_KERNELS_TILED_LAUNCH_CUH_

#include "generic.h"
#include "launch.cuh"
#include "tensor_map.h"
#include "tiled_plan.h"
#include "tiled_scan.cuh"

namespace gspn2 {

inline cudaError_t encodeScanMaps(TiledScanParams& params, const LineScanCall& call) {
  const gspn2_problem_t& problem = call.problem;
  const TileShape map{problem.n * problem.c, problem.h, problem.w, params.tileSteps,
                      params.boxPositions};
  cudaError_t status = encodeTensorMap(&params.xMap, problem.dtype, call.x, map);
  if (status != cudaSuccess) return status;
  status = encodeTensorMap(&params.lamMap, problem.dtype, call.lam, map);
  if (status != cudaSuccess) return status;
  TileShape affinities = map;
  affinities.planes = problem.n * 3 * problem.g;
  return encodeTensorMap(&params.wMap, problem.dtype, call.w, affinities);
}

template <typename C>
cudaError_t launchTiledScan(const LineScanCall& call, const TiledPlan& plan) {
  const gspn2_problem_t& problem = call.problem;
  TiledScanParams params{};
  params.h = call.h;
  params.plane = problem.h * problem.w;
  params.line = static_cast<int>(problem.w);
  params.steps = static_cast<int>(problem.h);
  params.chunk = problem.chunk == 0 || problem.chunk > params.steps
                     ? params.steps
                     : static_cast<int>(problem.chunk);
  params.channels = static_cast<int>(problem.c);
  params.affinities = static_cast<int>(problem.g);
  params.own = plan.own;
  params.halo = plan.parts > 1 ? plan.tileSteps : 0;
  params.boxes = plan.boxes();
  params.boxPositions = plan.boxPositions();
  params.tileSteps = plan.tileSteps;
  params.tiles = (params.steps + plan.tileSteps - 1) / plan.tileSteps;
  params.stages = plan.stages;
  params.warps = (plan.extent() + C::kRows * kWarpSize - 1) / (C::kRows * kWarpSize);
  params.reverse = call.direction == GSPN2_BOTTOM_TO_TOP;
  if (params.warps > kMaxTileWarps) return cudaErrorInvalidConfiguration;
  const cudaError_t status = encodeScanMaps(params, call);
  if (status != cudaSuccess) return status;
  return launchClusters(
      tiledScanKernel<C>, static_cast<unsigned>(problem.n * problem.c * plan.parts),
      static_cast<unsigned>((params.warps + 1) * kWarpSize), static_cast<unsigned>(plan.parts),
      tiledLayout(params, sizeof(typename C::T)).total, call.stream, params);
}

template <typename T>
cudaError_t dispatchTiledScan(const LineScanCall& call, const TiledPlan& plan) {
  switch (call.problem.normalize) {
    case GSPN2_NORMALIZE_NONE:
      return launchTiledScan<TiledConfig<T, GSPN2_NORMALIZE_NONE>>(call, plan);
    case GSPN2_NORMALIZE_SIGMOID:
      return launchTiledScan<TiledConfig<T, GSPN2_NORMALIZE_SIGMOID>>(call, plan);
    case GSPN2_NORMALIZE_SOFTMAX:
      return launchTiledScan<TiledConfig<T, GSPN2_NORMALIZE_SOFTMAX>>(call, plan);
  }
  return cudaErrorNotSupported;
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_TILED_LAUNCH_CUH_
