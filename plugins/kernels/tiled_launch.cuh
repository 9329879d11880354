// Host side of the tiled scan, for one dtype: from a call and a plan to a launch.
#ifndef GSPN2_KERNELS_TILED_LAUNCH_CUH_
#define GSPN2_KERNELS_TILED_LAUNCH_CUH_

#include "by_dtype.h"
#include "launch.cuh"
#include "tensor_map.h"
#include "tiled_plan.h"
#include "tiled_scan.cuh"

namespace gspn2 {

inline cudaError_t encodeScanMaps(TiledScanParams& params, const DirectionScan& scan) {
  const gspn2_problem_t& problem = scan.problem;
  const auto encode = [&](CUtensorMap* map, const void* data, int64_t planes) {
    return encodeTensorMap(
        map, problem.dtype, data,
        TileShape{planes, problem.h, problem.w, params.tileSteps, params.boxPositions});
  };
  // A tensor ends with its last item, whatever lies between them.
  const int64_t gates = (problem.n - 1) * params.gateBatch + problem.c;
  const int64_t affinities = (problem.n - 1) * params.affinityBatch + 3 * problem.g;
  cudaError_t status = encode(&params.xMap, scan.x, problem.n * problem.c);
  if (status == cudaSuccess) status = encode(&params.lamMap, scan.lam, gates);
  if (status == cudaSuccess) status = encode(&params.wMap, scan.w, affinities);
  if (status == cudaSuccess && scan.u != nullptr) status = encode(&params.uMap, scan.u, gates);
  return status;
}

template <typename C>
cudaError_t launchTiles(const DirectionScan& scan, const TiledPlan& plan) {
  const gspn2_problem_t& problem = scan.problem;
  TiledScanParams params{};
  params.out = scan.out;
  params.sums = scan.sums;
  params.m = scan.m;
  params.plane = scan.plane();
  params.line = static_cast<int>(scan.line());
  params.steps = static_cast<int>(scan.steps());
  params.chunk = static_cast<int>(scan.chunk());
  params.channels = static_cast<int>(problem.c);
  params.affinities = static_cast<int>(problem.g);
  params.gateBatch = static_cast<int>(scan.gateBatch());
  params.affinityBatch = static_cast<int>(scan.affinityBatch());
  params.own = plan.own;
  params.halo = plan.parts > 1 ? plan.tileSteps : 0;
  params.boxes = plan.boxes();
  params.boxPositions = plan.boxPositions();
  params.tileSteps = plan.tileSteps;
  params.tiles = (params.steps + plan.tileSteps - 1) / plan.tileSteps;
  params.stages = plan.stages;
  params.warps = (plan.extent() + C::kRows * kWarpSize - 1) / (C::kRows * kWarpSize);
  params.reverse = scan.reverse();
  if (params.warps > kMaxTileWarps) return cudaErrorInvalidConfiguration;
  const cudaError_t status = encodeScanMaps(params, scan);
  if (status != cudaSuccess) return status;
  return launchClusters(
      tiledScanKernel<C>, static_cast<unsigned>(problem.n * problem.c * plan.parts),
      static_cast<unsigned>((params.warps + 1) * kWarpSize), static_cast<unsigned>(plan.parts),
      tiledLayout<C>(params).total, scan.stream, params);
}

template <typename T, ScanOutput kOutput>
cudaError_t dispatchTiledScan(const DirectionScan& scan, const TiledPlan& plan) {
  return withNormalisation(scan.problem.normalize, [&](auto normalize) {
    return launchTiles<TiledConfig<T, decltype(normalize)::value, kOutput>>(scan, plan);
  });
}

template <typename T>
cudaError_t dispatchTiledScan(const DirectionScan& scan, const TiledPlan& plan) {
  switch (scan.output) {
    case ScanOutput::kStates:
      return dispatchTiledScan<T, ScanOutput::kStates>(scan, plan);
    case ScanOutput::kSums:
      return dispatchTiledScan<T, ScanOutput::kSums>(scan, plan);
    case ScanOutput::kFinal:  // float32 adds up in y itself
      if constexpr (sizeof(T) < sizeof(float)) {
        return dispatchTiledScan<T, ScanOutput::kFinal>(scan, plan);
      }
      break;
  }
  return cudaErrorNotSupported;
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_TILED_LAUNCH_CUH_
