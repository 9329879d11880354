// gspn2_line_scan on any extent: one launch of the generic scan.
#include "by_dtype.h"
#include "device.h"
#include "generic_launch.cuh"

namespace gspn2 {
namespace {

template <typename T>
cudaError_t launch(const LineScanCall& call) {
  const gspn2_problem_t& problem = call.problem;
  ScanParams<T> params = makeParams<T>(problem, call.direction);
  params.x = static_cast<const T*>(call.x);
  params.lam = static_cast<const T*>(call.lam);
  params.w = static_cast<const T*>(call.w);
  params.out = static_cast<T*>(call.h);
  params.lines = static_cast<float*>(call.workspace);
  params.gateBatchStride = problem.c * params.plane;
  params.wBatchStride = 3 * problem.g * params.plane;
  params.aligned = problem.w % kRunSteps == 0 && isAligned(call.x) && isAligned(call.lam) &&
                   isAligned(call.w) && isAligned(call.h);
  return launchScan<T, false>(params, isHorizontal(call.direction), call.stream);
}

}  // namespace

cudaError_t launchGenericLineScan(const LineScanCall& call) {
  return launchByDtype(call.problem.dtype, launch<float>, launch<__half>, launch<__nv_bfloat16>,
                       call);
}

cudaError_t imageCapability(int* capability) {
  cudaFuncAttributes attributes{};
  const cudaError_t status =
      cudaFuncGetAttributes(&attributes, scanLongKernel<float, false, false>);  // any would do
  *capability = attributes.ptxVersion;
  return status;
}

size_t genericLineScanWorkspace(const gspn2_problem_t& problem, gspn2_direction_t direction) {
  return lineWorkspace(problem, isHorizontal(direction));
}

}  // namespace gspn2
