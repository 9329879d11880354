// The tiled line scan's instances for bfloat16.
#include "tiled_launch.cuh"

namespace gspn2 {

cudaError_t launchTiledScanBfloat16(const LineScanCall& call, const TiledPlan& plan) {
  return dispatchTiledScan<__nv_bfloat16>(call, plan);
}

}  // namespace gspn2
