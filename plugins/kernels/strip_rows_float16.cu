// The vertical strip scan's instances for float16.
#include "strip_rows_launch.cuh"

namespace gspn2 {

cudaError_t launchStripRowsFloat16(const DirectionScan& scan, const StripPlan& plan) {
  return dispatchStripRows<__half>(scan, plan);
}

}  // namespace gspn2
