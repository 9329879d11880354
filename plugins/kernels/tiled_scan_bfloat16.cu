// The tiled line scan's instances for bfloat16.
#include "tiled_launch.cuh"

namespace gspn2 {

cudaError_t launchTiledScanBfloat16(const DirectionScan& scan, const TiledPlan& plan) {
  return dispatchTiledScan<__nv_bfloat16>(scan, plan);
}

}  // namespace gspn2
