// The tiled line scan's instances for float16.
#include "tiled_launch.cuh"

namespace gspn2 {

cudaError_t launchTiledScanFloat16(const DirectionScan& scan, const TiledPlan& plan) {
  return dispatchTiledScan<__half>(scan, plan);
}

}  // namespace gspn2
