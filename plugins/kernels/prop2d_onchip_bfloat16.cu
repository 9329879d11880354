// GspnProp2D on chip: the instances for bfloat16.
#include "prop2d_onchip_launch.cuh"

namespace gspn2 {

cudaError_t launchOnchipBfloat16(const Prop2dCall& call, const OnchipPlan& plan) {
  return dispatchOnchip<__nv_bfloat16>(call, plan);
}

}  // namespace gspn2
