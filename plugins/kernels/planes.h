// Tensors in GSPN2_NHWC8 as planes: for the paths that read no others.
#ifndef GSPN2_KERNELS_PLANES_H_
#define GSPN2_KERNELS_PLANES_H_

#include <cuda_runtime_api.h>

#include <cstddef>

#include "generic.h"  // Prop2dCall

namespace gspn2 {

inline bool isInRows(const gspn2_strides_t& strides) { return strides.position != 1; }

// Bytes at a workspace's front that hold the tensors as dense planes; 0 where they are in planes.
size_t planesBytes(const gspn2_problem_t& problem, const gspn2_strides_t& strides, bool hasD);

// Lets a call read its tensors from there, where they are not in planes. One launch.
cudaError_t makePlanes(Prop2dCall* call);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_PLANES_H_
