// The horizontal strip scan's instances for float32.
#include "strip_columns_launch.cuh"

namespace gspn2 {

cudaError_t launchStripColumnsFloat32(const DirectionScan& scan, const StripPlan& plan) {
  return dispatchStripColumns<float>(scan, plan);
}

}  // namespace gspn2
