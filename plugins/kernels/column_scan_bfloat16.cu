// The column scan's instances for bfloat16.
#include "column_launch.cuh"
#include "tiled_plan.h"

namespace gspn2 {

cudaError_t launchColumnScanBfloat16(const LineScanCall& call, const TiledPlan& plan) {
  return dispatchColumnScan<__nv_bfloat16>(call, plan.parts);
}

}  // namespace gspn2
