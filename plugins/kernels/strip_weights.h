// Affinities that channels share, turned into weights once for all of them: see strip_weights.cu.
#ifndef GSPN2_KERNELS_STRIP_WEIGHTS_H_
#define GSPN2_KERNELS_STRIP_WEIGHTS_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "generic.h"  // Prop2dCall

namespace gspn2 {

constexpr int64_t kMaxFusedMap = 1 << 17;  // positions: more than two blocks' shared memory holds

// Whether the strips weigh a problem's affinities once, ahead of the scans, if they take it; of the
// 16-bit dtypes the fused ones alone. Looks at no pointer and at no device, and what holds for a
// map holds for larger ones: it also says what a workspace has to hold, which callers ask for at
// the largest shape that they will use.
bool weighsOnce(const gspn2_problem_t& problem);

// Whether the strips do so for 16-bit dtypes of any size: in builds for sweep_plans.py, where all
// paths are asked for. No other build may: an engine's workspace must not depend on the
// environment.
bool weighsLargeHalves();

// Bytes of those weights, at the start of the workspace, a multiple of 256; no less for larger
// maps.
size_t onceWeighedBytes(const gspn2_problem_t& problem);

// Writes the weights of the call's affinities to `weights`, and has the call read those instead.
cudaError_t weighOnce(float* weights, Prop2dCall* call);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_WEIGHTS_H_
