// The vertical strip scan's instances for bfloat16.
#include "strip_rows_launch.cuh"

namespace gspn2 {

cudaError_t launchStripRowsBfloat16(const DirectionScan& scan, const StripPlan& plan) {
  return dispatchStripRows<__nv_bfloat16>(scan, plan);
}

}  // namespace gspn2
