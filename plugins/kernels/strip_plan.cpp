// The heuristics of the strip scan. docs/kernels.md has the reasons.
#include "strip_plan.h"

#include <algorithm>
#include <cstdint>

#include "paths.h"
#include "strip_layout.h"

namespace gspn2 {
namespace {

constexpr int kAccessBytes = 16;
constexpr int64_t kMaxIndex = INT32_MAX;
constexpr int kMaxParts = 8;   // the portable cluster size
constexpr int kMaxStages = 4;  // 128 bytes of each row
constexpr int kMinStages = 2;
constexpr int kMinPart = 64;     // rows that are worth a block of their own
constexpr int kRowsOfPart = 8;   // a part is a multiple of this
constexpr int kTwoRowWarps = 4;  // one to a scheduler; above, three rows to a lane
constexpr int kThreeRowWarps = 4;

int ceilDiv(int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); }
int elementBytes(gspn2_dtype_t dtype) { return dtype == GSPN2_FLOAT32 ? 4 : 2; }

bool isAligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % kAccessBytes == 0;
}

// Rows of a part and of its neighbours that a block's warps share out.
int sharedOut(int own, int parts) {
  return own + (parts > 1 ? 2 * kStripHalo - 2 * kStripEdge : 0);
}

// Rows of a lane and warps of a block for a part, or no warps where the part is too long.
bool fit(StripPlan& plan) {
  const int extent = plan.own + (plan.parts > 1 ? 2 * kStripHalo : 0);
  plan.warps = 1;
  for (plan.rows = 1; plan.rows <= kStripMaxRows; ++plan.rows) {
    if (extent <= kWarpRows * plan.rows) return true;
  }
  const int rows = sharedOut(plan.own, plan.parts);
  plan.rows = 2;
  plan.warps = ceilDiv(rows, stripStride(2));
  if (plan.warps <= kTwoRowWarps) return true;
  plan.rows = 3;
  plan.warps = ceilDiv(rows, stripStride(3));
  return plan.warps <= kThreeRowWarps;
}

// Cuts the line into `parts`, or fewer where rounding leaves the last ones empty.
bool cut(StripPlan& plan, int64_t line, int parts) {
  plan.own = ceilDiv(ceilDiv(line, parts), kRowsOfPart) * kRowsOfPart;
  plan.parts = ceilDiv(line, plan.own);
  return fit(plan);
}

// As few parts as the line fits into, or more where there are too few slices to keep the device
// busy.
bool choose(StripPlan& plan, int64_t line, int64_t slices, const DeviceInfo& device) {
  int least = 1;
  while (least <= kMaxParts && !cut(plan, line, least)) ++least;
  if (least > kMaxParts) return false;
  const int64_t useful = std::min(device.multiprocessors / slices, line / kMinPart);
  const int parts = static_cast<int>(std::clamp<int64_t>(useful, least, kMaxParts));
  return cut(plan, line, parts);
}

bool planStripScan(const LineScanCall& call, const DeviceInfo& device, StripPlan& plan) {
  const gspn2_problem_t& problem = call.problem;
  const int bytes = elementBytes(problem.dtype);
  const int64_t slices = problem.n * problem.c;
  if (call.direction != GSPN2_LEFT_TO_RIGHT && call.direction != GSPN2_RIGHT_TO_LEFT) return false;
  if (device.computeCapability < 90 || problem.w * bytes % kAccessBytes != 0) return false;
  for (const void* pointer : {call.x, call.lam, call.w, static_cast<const void*>(call.h)}) {
    if (!isAligned(pointer)) return false;
  }
  if (problem.h > kMaxIndex / 2 || problem.w > kMaxIndex / 2 ||
      problem.n * 3 * std::max(problem.g, problem.c) > kMaxIndex / kMaxParts) {
    return false;
  }
  if (!choose(plan, problem.h, slices, device)) return false;
  plan.producers = plan.warps > 2 ? 2 : 1;
  const int pieces = ceilDiv(problem.w * bytes, kStripPieceBytes);
  plan.stages = std::clamp(pieces, kMinStages, kMaxStages);
  while (plan.stages >= kMinStages &&
         stripLayout(plan.rows, plan.warps, plan.stages).total > device.sharedBytesPerBlock) {
    --plan.stages;
  }
  return plan.stages >= kMinStages;
}

}  // namespace

bool stripLineScanSupports(const LineScanCall& call, const DeviceInfo& device) {
  StripPlan plan{};
  return planStripScan(call, device, plan);
}

cudaError_t launchStripLineScan(const LineScanCall& call, const DeviceInfo& device) {
  StripPlan plan{};
  if (!planStripScan(call, device, plan)) return cudaErrorNotSupported;
  switch (call.problem.dtype) {
    case GSPN2_FLOAT32:
      return launchStripScanFloat32(call, plan);
    case GSPN2_FLOAT16:
      return launchStripScanFloat16(call, plan);
    case GSPN2_BFLOAT16:
      return launchStripScanBfloat16(call, plan);
  }
  return cudaErrorNotSupported;
}

}  // namespace gspn2
