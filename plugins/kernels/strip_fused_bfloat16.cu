// GspnProp2D in one pass by strips: the instances for bfloat16.
#include "strip_fused_launch.cuh"

namespace gspn2 {

cudaError_t launchFusedBfloat16(const Prop2dCall& call, const FusedPlan& plan) {
  return launchFused<__nv_bfloat16>(call, plan);
}

}  // namespace gspn2
