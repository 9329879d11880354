// The tiled line scan's instances for float32.
#include "tiled_launch.cuh"

namespace gspn2 {

cudaError_t launchTiledScanFloat32(const DirectionScan& scan, const TiledPlan& plan) {
  return dispatchTiledScan<float>(scan, plan);
}

}  // namespace gspn2
