// gspn2_prop2d on any extent: the generic scan once for each direction, merged in float32. float32
// merges into y itself; the 16-bit dtypes merge into the workspace, so that no sum is rounded
// twice.
#include "by_dtype.h"
#include "generic_launch.cuh"
#include "plan_arithmetic.h"

namespace gspn2 {
namespace {

constexpr int64_t kDirections = 4;

size_t sumsBytes(const gspn2_problem_t& problem) {
  if (problem.dtype == GSPN2_FLOAT32) return 0;
  return workspaceRoundUp(sizeof(float) *
                          static_cast<size_t>(problem.n * problem.c * problem.h * problem.w));
}

template <typename T>
cudaError_t launch(const Prop2dCall& call) {
  const gspn2_problem_t& problem = call.problem;
  for (int64_t k = 0; k < kDirections; ++k) {
    const auto direction = static_cast<gspn2_direction_t>(k);
    ScanParams<T> params = makeParams<T>(problem, direction);
    const int64_t gate = k * problem.c * params.plane;
    params.x = static_cast<const T*>(call.x);
    params.lam = static_cast<const T*>(call.lam) + gate;
    params.w = static_cast<const T*>(call.w) + k * 3 * problem.g * params.plane;
    params.u = static_cast<const T*>(call.u) + gate;
    params.d = call.d != nullptr ? static_cast<const T*>(call.d) + gate : nullptr;
    params.m = call.m != nullptr ? static_cast<const T*>(call.m) + k : nullptr;
    params.out = static_cast<T*>(call.y);
    params.sums = static_cast<float*>(problem.dtype == GSPN2_FLOAT32 ? call.y : call.workspace);
    params.lines =
        reinterpret_cast<float*>(static_cast<char*>(call.workspace) + sumsBytes(problem));
    params.gateBatchStride = call.strides.gates;
    params.wBatchStride = call.strides.w;
    params.aligned = problem.w % kRunSteps == 0 && isAligned(call.x) && isAligned(call.lam) &&
                     isAligned(call.w) && isAligned(call.u) && isAligned(call.d) &&
                     isAligned(call.y);
    params.accumulate = k > 0;
    params.finalise = k == kDirections - 1;
    const cudaError_t status = launchScan<T, true>(params, isHorizontal(direction), call.stream);
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t launchGenericProp2d(const Prop2dCall& call) {
  return launchByDtype(call.problem.dtype, launch<float>, launch<__half>, launch<__nv_bfloat16>,
                       call);
}

size_t genericProp2dWorkspace(const gspn2_problem_t& problem) {
  const size_t lines = std::max(lineWorkspace(problem, true), lineWorkspace(problem, false));
  return sumsBytes(problem) + lines;
}

}  // namespace gspn2
