// The vertical strip scan's instances for float32.
#include "strip_rows_launch.cuh"

namespace gspn2 {

cudaError_t launchStripRowsFloat32(const DirectionScan& scan, const StripPlan& plan) {
  return dispatchStripRows<float>(scan, plan);
}

}  // namespace gspn2
