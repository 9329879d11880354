// GspnProp2D in one pass by strips: the instances for float16.
#include "strip_fused_launch.cuh"

namespace gspn2 {

cudaError_t launchFusedFloat16(const Prop2dCall& call, const FusedPlan& plan) {
  return launchFused<__half>(call, plan);
}

}  // namespace gspn2
