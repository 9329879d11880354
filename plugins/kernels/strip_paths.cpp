// Both ops by strip scans: GspnLineScan in one launch, GspnProp2D in one for each direction, and
// one for the skip gates where it has them.
#include <cstdint>

#include "by_dtype.h"
#include "paths.h"
#include "plan_arithmetic.h"
#include "strip_plan.h"
#include "strip_weights.h"
#include "tiled_plan.h"
#include "tuning.h"

namespace gspn2 {
namespace {

constexpr int kDirections = 4;

// Whether tiles take the vertical directions whose states are added to sums: to be measured.
bool tilesAddToSums() {
  int tuned[1];
  return readTuning("GSPN2_TILED_GATES", 1, tuned) && tuned[0] != 0;
}

cudaError_t launch(const DirectionScan& scan, const DeviceInfo& device) {
  if (scan.output == ScanOutput::kSums && !scan.horizontal() && tilesAddToSums()) {
    const TiledPlan tiles = planTiledScan(scan, device);
    if (tiles.parts > 0) return launchTiledScan(scan, tiles);
  }
  StripPlan plan{};
  if (!planStripScan(scan, device, &plan)) return cudaErrorNotSupported;
  return scan.horizontal()
             ? launchByDtype(scan.problem.dtype, launchStripColumnsFloat32,
                             launchStripColumnsFloat16, launchStripColumnsBfloat16, scan, plan)
             : launchByDtype(scan.problem.dtype, launchStripRowsFloat32, launchStripRowsFloat16,
                             launchStripRowsBfloat16, scan, plan);
}

bool sumsInPlace(const gspn2_problem_t& problem) { return problem.dtype == GSPN2_FLOAT32; }

// float32 sums up in y itself, the 16-bit dtypes in the workspace, from where the last direction
// rounds into y.
float* sumsOf(const Prop2dCall& call) {
  return static_cast<float*>(sumsInPlace(call.problem) ? call.y : call.workspace);
}

// The k-th direction.
DirectionScan direction(const Prop2dCall& call, int k) {
  const gspn2_problem_t& problem = call.problem;
  const int64_t bytes = planElementBytes(problem.dtype);
  const int64_t plane = problem.h * problem.w;
  const auto at = [](const void* base, int64_t offset) -> const void* {
    return base == nullptr ? nullptr : static_cast<const char*>(base) + offset;
  };
  const bool last = k + 1 == kDirections && !sumsInPlace(problem);
  DirectionScan scan{};
  scan.problem = problem;
  scan.strides = call.strides;
  scan.direction = static_cast<gspn2_direction_t>(k);
  scan.output = last ? ScanOutput::kFinal : ScanOutput::kSums;
  scan.x = call.x;
  scan.lam = at(call.lam, k * problem.c * plane * bytes);
  scan.w = at(call.w, k * 3 * problem.g * plane * bytes);
  scan.u = at(call.u, k * problem.c * plane * bytes);
  scan.m = at(call.m, k * bytes);
  scan.out = call.y;
  scan.sums = sumsOf(call);
  scan.add = k > 0 || call.d != nullptr;
  scan.stream = call.stream;
  return scan;
}

}  // namespace

bool stripLineScanSupports(const LineScanCall& call, const DeviceInfo& device) {
  StripPlan plan{};
  return isCopyAligned(call.x) && isCopyAligned(call.lam) && isCopyAligned(call.w) &&
         isCopyAligned(call.h) && planStripScan(directionOf(call), device, &plan);
}

cudaError_t launchStripLineScan(const LineScanCall& call, const DeviceInfo& device) {
  return launch(directionOf(call), device);
}

bool stripProp2dSupports(const Prop2dCall& call, const DeviceInfo& device) {
  if (!isCopyAligned(call.d) || !isCopyAligned(call.x) || !isCopyAligned(call.lam) ||
      !isCopyAligned(call.w) || !isCopyAligned(call.u) || !isCopyAligned(call.y) ||
      !isCopyAligned(call.workspace)) {
    return false;
  }
  for (int k = 0; k < kDirections; ++k) {
    StripPlan plan{};
    if (!planStripScan(direction(call, k), device, &plan)) return false;
  }
  return true;
}

size_t stripProp2dWorkspace(const gspn2_problem_t& problem) { return onceWeighedBytes(problem); }

cudaError_t launchStripProp2d(const Prop2dCall& given, const DeviceInfo& device) {
  Prop2dCall call = given;
  if (weighsOnce(call.problem)) {
    const cudaError_t status = weighOnce(static_cast<float*>(call.workspace), &call);
    if (status != cudaSuccess) return status;
  }
  if (call.d != nullptr) {
    const cudaError_t status = launchStripSkips(call, sumsOf(call));
    if (status != cudaSuccess) return status;
  }
  for (int k = 0; k < kDirections; ++k) {
    const cudaError_t status = launch(direction(call, k), device);
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

}  // namespace gspn2
