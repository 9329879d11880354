// The strip scan's instances for float32.
#include "strip_launch.cuh"

namespace gspn2 {

cudaError_t launchStripScanFloat32(const LineScanCall& call, const StripPlan& plan) {
  return dispatchStripScan<float>(call, plan);
}

}  // namespace gspn2
