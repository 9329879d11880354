// Argument checks of the C ABI: they read no device memory and need no GPU.
#ifndef GSPN2_KERNELS_VALIDATE_H_
#define GSPN2_KERNELS_VALIDATE_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "gspn2/kernels.h"

namespace gspn2 {

constexpr int64_t kDirectionCount = 4;
constexpr int64_t kNeighbours = 3;

// One buffer of a call. An optional one may be null and is then skipped.
struct Buffer {
  const char* name;
  const void* data;
  int64_t elements;  // from the first to the last
  bool optional = false;
};

// Bytes of one element, or 0 for an unknown dtype.
int64_t elementBytes(gspn2_dtype_t dtype);

gspn2_status_t checkProblem(const gspn2_problem_t* problem);
// Turns the strides of a checked problem, which may be null, into those that they stand for, none
// of which is 0. That of x is a dense tensor's wherever x is dense.
gspn2_status_t checkStrides(const gspn2_problem_t& problem, const gspn2_strides_t* given,
                            gspn2_strides_t* strides);
gspn2_status_t checkNorm(const gspn2_norm_t* norm);
// What the projection onto a checked norm's map is: one of no channels where `given` is null.
gspn2_status_t checkProjection(const gspn2_norm_t& norm, const gspn2_projection_t* given,
                               gspn2_projection_t* projection);
gspn2_status_t checkDepthwise(const gspn2_depthwise_t* conv);
// The same, for a convolution with a layer normalisation of this epsilon behind it.
gspn2_status_t checkDepthwiseNorm(const gspn2_depthwise_t* conv, float epsilon);
// The tensors of GSPN2_NHWC8.
gspn2_status_t checkVectorAligned(std::initializer_list<Buffer> tensors);
gspn2_status_t checkDirection(gspn2_direction_t direction);

// Null pointers, alignment, and an output or workspace that shares bytes with another buffer.
gspn2_status_t checkBuffers(gspn2_dtype_t dtype, std::initializer_list<Buffer> inputs,
                            std::initializer_list<Buffer> outputs, const void* workspace,
                            size_t workspaceBytes);

gspn2_status_t checkWorkspace(const void* workspace, size_t bytes, size_t required,
                              const char* query);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_VALIDATE_H_
