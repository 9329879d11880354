// GspnProp2D on chip: the instances for float16.
#include "prop2d_onchip_launch.cuh"

namespace gspn2 {

cudaError_t launchOnchipFloat16(const Prop2dCall& call, const OnchipPlan& plan) {
  return dispatchOnchip<__half>(call, plan);
}

}  // namespace gspn2
