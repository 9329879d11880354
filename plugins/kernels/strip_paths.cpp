// GspnLineScan by one strip scan; GspnProp2D by one scan for each direction, of strips or, where
// they are faster, of tiles, and one launch for the skip gates where it has them. Few slices have
// their directions side by side, each with sums of its own, and one launch more to merge them.
#include <algorithm>
#include <cstdint>

#include "by_dtype.h"
#include "path_choice.h"
#include "paths.h"
#include "plan_arithmetic.h"
#include "strip_plan.h"
#include "strip_weights.h"
#include "tiled_plan.h"
#include "tuning.h"

namespace gspn2 {
namespace {

constexpr int kDirections = 4;
// What runs side by side at most: slices, and positions of all of them.
constexpr int64_t kSideBySideSlices = 64;
constexpr int64_t kSideBySideElements = 1 << 24;

cudaError_t launchStrips(const DirectionScan& scan, const DeviceInfo& device) {
  StripPlan plan{};
  if (!planStripScan(scan, device, &plan)) return cudaErrorNotSupported;
  return scan.horizontal()
             ? launchByDtype(scan.problem.dtype, launchStripColumnsFloat32,
                             launchStripColumnsFloat16, launchStripColumnsBfloat16, scan, plan)
             : launchByDtype(scan.problem.dtype, launchStripRowsFloat32, launchStripRowsFloat16,
                             launchStripRowsBfloat16, scan, plan);
}

// The tiles of one direction of GspnProp2D, by the rule of vertical line scans; no parts where
// strips take it. On an H200 tiles against strips alone, all four directions, in ms, fp32 (fp16,
// top to bottom alone by tiles): 16x8x1024x1024 3.61, 3.99 (2.93, 3.00); 8x64x256x256 0.868, 0.885
// (0.706, 0.732); 1x128x512x512 0.783, 0.812 (0.710, 0.747); 32x32x128x128 0.433, 0.439 (0.400,
// 0.443); 1x8x1024x1024, which the rule leaves to strips, 0.742, 0.613 (0.747, 0.686).
TiledPlan planTiles(const DirectionScan& scan, const DeviceInfo& device) {
  return isFasterByStrips(scan.problem, device) ? TiledPlan{} : planTiledScan(scan, device);
}

bool takesDirection(const DirectionScan& scan, const DeviceInfo& device) {
  StripPlan strips{};
  return planTiles(scan, device).parts > 0 || planStripScan(scan, device, &strips);
}

cudaError_t launchDirection(const DirectionScan& scan, const DeviceInfo& device) {
  const TiledPlan tiles = planTiles(scan, device);
  return tiles.parts > 0 ? launchTiledScan(scan, tiles) : launchStrips(scan, device);
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

// Floats of a direction's sums where directions are side by side; of larger problems as many as the
// largest of those has.
int64_t sumsElements(const gspn2_problem_t& problem) {
  const int64_t slices = std::min(problem.n * problem.c, kSideBySideSlices);
  return std::min(slices * problem.h * problem.w, kSideBySideElements);
}

// Bytes of those of all directions, of the problem or of one with fewer slices or smaller maps:
// callers ask at the largest shape that they will use.
size_t sideBySideBytes(const gspn2_problem_t& problem) {
  if (std::max(problem.h, problem.w) <= kMaxOnchipExtent) return 0;
  return workspaceRoundUp(sizeof(float) * kDirections * static_cast<size_t>(sumsElements(problem)));
}

// The k-th direction, side by side with the others.
DirectionScan directionBeside(const Prop2dCall& call, int k) {
  DirectionScan scan = direction(call, k);
  scan.output = ScanOutput::kSums;
  scan.sums = static_cast<float*>(call.workspace) + k * sumsElements(call.problem);
  scan.add = k == 0 && call.d != nullptr;
  scan.startsNext = k + 1 < kDirections;
  scan.overlaps = k > 0;
  return scan;
}

// Whether the directions run side by side.
bool runsSideBySide(const Prop2dCall& call, const DeviceInfo& device) {
  const gspn2_problem_t& problem = call.problem;
  const int64_t slices = problem.n * problem.c;
  if (device.computeCapability < kClusterCapability || slices > kSideBySideSlices ||
      slices * problem.h * problem.w > kSideBySideElements ||
      std::max(problem.h, problem.w) <= kMaxOnchipExtent) {
    return false;
  }
  if (int tuned[1]; readTuning("GSPN2_SIDE_BY_SIDE", 1, tuned)) {
    countTuned();
    if (tuned[0] == 0) return false;
  }
  for (int k = 0; k < kDirections; ++k) {
    StripPlan plan{};
    if (!planStripScan(directionBeside(call, k), device, &plan)) return false;
  }
  return true;
}

// All of them on one stream: each launch may start as soon as the one before it has, and ends
// behind it, so that the merge, which starts behind the last one, has the sums of all.
cudaError_t launchSideBySide(const Prop2dCall& call, const DeviceInfo& device) {
  auto* const sums = static_cast<float*>(call.workspace);
  cudaError_t status = call.d != nullptr ? launchStripSkips(call, sums) : cudaSuccess;
  for (int k = 0; k < kDirections && status == cudaSuccess; ++k) {
    status = launchStrips(directionBeside(call, k), device);
  }
  return status == cudaSuccess ? launchStripMerge(call, sums, sumsElements(call.problem)) : status;
}

}  // namespace

bool stripLineScanSupports(const LineScanCall& call, const DeviceInfo& device) {
  StripPlan plan{};
  return isCopyAligned(call.x) && isCopyAligned(call.lam) && isCopyAligned(call.w) &&
         isCopyAligned(call.h) && planStripScan(directionOf(call), device, &plan);
}

cudaError_t launchStripLineScan(const LineScanCall& call, const DeviceInfo& device) {
  return launchStrips(directionOf(call), device);
}

bool stripProp2dSupports(const Prop2dCall& call, const DeviceInfo& device) {
  if (!isCopyAligned(call.d) || !isCopyAligned(call.x) || !isCopyAligned(call.lam) ||
      !isCopyAligned(call.w) || !isCopyAligned(call.u) || !isCopyAligned(call.y) ||
      !isCopyAligned(call.workspace)) {
    return false;
  }
  for (int k = 0; k < kDirections; ++k) {
    if (!takesDirection(direction(call, k), device)) return false;
  }
  return true;
}

size_t stripProp2dWorkspace(const gspn2_problem_t& problem) {
  return sideBySideBytes(problem) + onceWeighedBytes(problem);
}

cudaError_t launchStripProp2d(const Prop2dCall& given, const DeviceInfo& device) {
  Prop2dCall call = given;
  if (weighsOnce(call.problem)) {
    char* const behindSums = static_cast<char*>(call.workspace) + sideBySideBytes(call.problem);
    const cudaError_t status = weighOnce(reinterpret_cast<float*>(behindSums), &call);
    if (status != cudaSuccess) return status;
  }
  if (runsSideBySide(call, device)) return launchSideBySide(call, device);
  if (call.d != nullptr) {
    const cudaError_t status = launchStripSkips(call, sumsOf(call));
    if (status != cudaSuccess) return status;
  }
  for (int k = 0; k < kDirections; ++k) {
    const cudaError_t status = launchDirection(direction(call, k), device);
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

}  // namespace gspn2
