// Affinities that channels share, turned into weights once for all of them: see strip_weights.cu.
#ifndef GSPN2_KERNELS_STRIP_WEIGHTS_H_
#define GSPN2_KERNELS_STRIP_WEIGHTS_H_

#include <cuda_runtime_api.h>

#include <cstddef>

#include "generic.h"  // Prop2dCall

namespace gspn2 {

constexpr int64_t kMaxOnchipExtent = 64;  // maps that are on chip wherever strips have clusters

// Whether the strips weigh a problem's affinities once, ahead of the scans, if they take it:
// float32 ones. Looks at no pointer and at no device.
bool weighsOnce(const gspn2_problem_t& problem);

// Bytes that the weights of the problem, or of one with fewer items or smaller maps, fill: callers
// ask at the largest shape that they will use.
size_t onceWeighedBytes(const gspn2_problem_t& problem);

// Writes the weights of the call's affinities to `weights`, and has the call read those instead.
cudaError_t weighOnce(float* weights, Prop2dCall* call);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_WEIGHTS_H_
