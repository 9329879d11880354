// The tiled line scan's instances for float16.
#include "tiled_launch.cuh"

namespace gspn2 {

cudaError_t launchTiledScanFloat16(const LineScanCall& call, const TiledPlan& plan) {
  return dispatchTiledScan<__half>(call, plan);
}

}  // namespace gspn2
