// The strip scan's instances for float16.
#include "strip_launch.cuh"

namespace gspn2 {

cudaError_t launchStripScanFloat16(const LineScanCall& call, const StripPlan& plan) {
  return dispatchStripScan<__half>(call, plan);
}

}  // namespace gspn2
