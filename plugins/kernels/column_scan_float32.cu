// The column scan's instances for float32.
#include "column_launch.cuh"
#include "tiled_plan.h"

namespace gspn2 {

cudaError_t launchColumnScanFloat32(const LineScanCall& call, const TiledPlan& plan) {
  return dispatchColumnScan<float>(call, plan.parts);
}

}  // namespace gspn2
