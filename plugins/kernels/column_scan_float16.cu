// The column scan's instances for float16.
#include "column_launch.cuh"
#include "tiled_plan.h"

namespace gspn2 {

cudaError_t launchColumnScanFloat16(const LineScanCall& call, const TiledPlan& plan) {
  return dispatchColumnScan<__half>(call, plan.parts);
}

}  // namespace gspn2
