// The horizontal strip scan's instances for float16.
#include "strip_columns_launch.cuh"

namespace gspn2 {

cudaError_t launchStripColumnsFloat16(const DirectionScan& scan, const StripPlan& plan) {
  return dispatchStripColumns<__half>(scan, plan);
}

}  // namespace gspn2
