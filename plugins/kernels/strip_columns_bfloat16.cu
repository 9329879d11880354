// The horizontal strip scan's instances for bfloat16.
#include "strip_columns_launch.cuh"

namespace gspn2 {

cudaError_t launchStripColumnsBfloat16(const DirectionScan& scan, const StripPlan& plan) {
  return dispatchStripColumns<__nv_bfloat16>(scan, plan);
}

}  // namespace gspn2
