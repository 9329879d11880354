// GspnProp2D in one pass by strips: the instances for float32.
#include "strip_fused_launch.cuh"

namespace gspn2 {

cudaError_t launchFusedFloat32(const Prop2dCall& call, const FusedPlan& plan) {
  return launchFused<float>(call, plan);
}

}  // namespace gspn2
