// The generic paths: correct on any extent, any alignment and any device of compute capability 8.0
// or later. The fast paths of paths.h stand in front of them.
#ifndef GSPN2_KERNELS_GENERIC_H_
#define GSPN2_KERNELS_GENERIC_H_

#include <cuda_runtime_api.h>

#include <cstddef>

#include "gspn2/kernels.h"

namespace gspn2 {

// A validated call of gspn2_line_scan.
struct LineScanCall {
  gspn2_problem_t problem;
  gspn2_direction_t direction;
  const void *x, *lam, *w;
  void* h;
  void* workspace;
  cudaStream_t stream;
};

// A validated call of gspn2_prop2d; d and m may be null, no stride is 0. On chip alone takes x
// whose items lie apart, and positions whose channels lie side by side.
struct Prop2dCall {
  gspn2_problem_t problem;
  gspn2_strides_t strides;
  const void *x, *lam, *w, *u, *d, *m;
  void* y;
  void* workspace;
  cudaStream_t stream;
};

cudaError_t launchGenericLineScan(const LineScanCall& call);
size_t genericLineScanWorkspace(const gspn2_problem_t& problem, gspn2_direction_t direction);

cudaError_t launchGenericProp2d(const Prop2dCall& call);
size_t genericProp2dWorkspace(const gspn2_problem_t& problem);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_GENERIC_H_
