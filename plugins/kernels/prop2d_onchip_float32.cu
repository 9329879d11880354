// GspnProp2D on chip: the instances for float32.
#include "prop2d_onchip_launch.cuh"

namespace gspn2 {

cudaError_t launchOnchipFloat32(const Prop2dCall& call, const OnchipPlan& plan) {
  return dispatchOnchip<float>(call, plan);
}

}  // namespace gspn2
