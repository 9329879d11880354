// Both ops by strip scans: GspnLineScan in one launch, GspnProp2D in one for each direction, and
// one for the skip gates where it has them.
#include <cstdint>

#include "by_dtype.h"
#include "paths.h"
#include "plan_arithmetic.h"
#include "strip_plan.h"
#include "strip_weights.h"

namespace gspn2 {
namespace {

constexpr int kDirections = 4;

cudaError_t launch(const StripScan& scan, const DeviceInfo& device) {
  StripPlan plan{};
  if (!planStripScan(scan, device, &plan)) return cudaErrorNotSupported;
  return scan.horizontal()
             ? launchByDtype(scan.problem.dtype, launchStripColumnsFloat32,
                             launchStripColumnsFloat16, launchStripColumnsBfloat16, scan, plan)
             : launchByDtype(scan.problem.dtype, launchStripRowsFloat32, launchStripRowsFloat16,
                             launchStripRowsBfloat16, scan, plan);
}

StripScan lineScan(const LineScanCall& call) {
  const gspn2_problem_t& problem = call.problem;
  const int64_t plane = problem.h * problem.w;
  StripScan scan{};
  scan.problem = problem;
  scan.strides = {problem.c * plane, 3 * problem.g * plane};
  scan.direction = call.direction;
  scan.output = StripOutput::kStates;
  scan.x = call.x;
  scan.lam = call.lam;
  scan.w = call.w;
  scan.weightBytes = planElementBytes(problem.dtype);
  scan.out = call.h;
  scan.stream = call.stream;
  return scan;
}

bool sumsInPlace(const gspn2_problem_t& problem) { return problem.dtype == GSPN2_FLOAT32; }

// Where the sums of a call lie whose workspace begins with `weights` bytes of weights. float32 sums
// up in y itself, the 16-bit dtypes in the workspace, from where the last direction rounds into y.
float* sumsOf(const Prop2dCall& call, size_t weights) {
  if (sumsInPlace(call.problem)) return static_cast<float*>(call.y);
  return reinterpret_cast<float*>(static_cast<char*>(call.workspace) + weights);
}

// The k-th direction.
StripScan direction(const Prop2dCall& call, int k, int weightBytes, float* sums) {
  const bool last = k + 1 == kDirections && !sumsInPlace(call.problem);
  const StripOutput output = last ? StripOutput::kFinal : StripOutput::kSums;
  StripScan scan = stripDirection(call, k, output, weightBytes);
  scan.out = call.y;
  scan.sums = sums;
  scan.add = k > 0 || call.d != nullptr;
  scan.stream = call.stream;
  return scan;
}

bool fits(const Prop2dCall& call, const DeviceInfo& device, int weightBytes) {
  for (int k = 0; k < kDirections; ++k) {
    StripPlan plan{};
    if (!planStripScan(direction(call, k, weightBytes, nullptr), device, &plan)) return false;
  }
  return true;
}

// Whether a call's affinities become weights ahead of the scans. What that gives 16-bit dtypes is
// to be measured.
bool weighs(const gspn2_problem_t& problem) {
  return weighsOnce(problem) && (sumsInPlace(problem) || weighsLargeHalves());
}

}  // namespace

bool stripLineScanSupports(const LineScanCall& call, const DeviceInfo& device) {
  StripPlan plan{};
  return isCopyAligned(call.x) && isCopyAligned(call.lam) && isCopyAligned(call.w) &&
         isCopyAligned(call.h) && planStripScan(lineScan(call), device, &plan);
}

cudaError_t launchStripLineScan(const LineScanCall& call, const DeviceInfo& device) {
  return launch(lineScan(call), device);
}

bool stripProp2dSupports(const Prop2dCall& call, const DeviceInfo& device) {
  if (!isCopyAligned(call.d) || !isCopyAligned(call.x) || !isCopyAligned(call.lam) ||
      !isCopyAligned(call.w) || !isCopyAligned(call.u) || !isCopyAligned(call.y) ||
      !isCopyAligned(call.workspace)) {
    return false;
  }
  return fits(call, device, planElementBytes(call.problem.dtype));
}

size_t stripProp2dWorkspace(const gspn2_problem_t& problem) {
  if (!weighsOnce(problem)) return 0;
  const size_t sums = sizeof(float) * static_cast<size_t>(problem.n * problem.c) *
                      static_cast<size_t>(problem.h * problem.w);
  return onceWeighedBytes(problem) + (weighs(problem) && !sumsInPlace(problem) ? sums : 0);
}

cudaError_t launchStripProp2d(const Prop2dCall& given, const DeviceInfo& device) {
  Prop2dCall call = given;
  int weightBytes = planElementBytes(call.problem.dtype);
  float* sums = sumsOf(call, 0);
  // In float32 that is what was planned to see whether strips take the call.
  if (weighs(call.problem) && (sumsInPlace(call.problem) || fits(call, device, sizeof(float)))) {
    weightBytes = sizeof(float);
    sums = sumsOf(call, onceWeighedBytes(call.problem));
    const cudaError_t status = weighOnce(static_cast<float*>(call.workspace), &call);
    if (status != cudaSuccess) return status;
  }
  if (call.d != nullptr) {
    const cudaError_t status = launchStripSkips(call, sums);
    if (status != cudaSuccess) return status;
  }
  for (int k = 0; k < kDirections; ++k) {
    const cudaError_t status = launch(direction(call, k, weightBytes, sums), device);
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

}  // namespace gspn2
