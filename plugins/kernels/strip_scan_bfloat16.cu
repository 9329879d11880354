// The strip scan's instances for bfloat16.
#include "strip_launch.cuh"

namespace gspn2 {

cudaError_t launchStripScanBfloat16(const LineScanCall& call, const StripPlan& plan) {
  return dispatchStripScan<__nv_bfloat16>(call, plan);
}

}  // namespace gspn2
