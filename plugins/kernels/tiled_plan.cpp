// The heuristics of the tiled scan. docs/kernels.md has the measurements behind them.
#include "tiled_plan.h"

#include <algorithm>
#include <cstdint>

#include "by_dtype.h"
#include "paths.h"
#include "plan_arithmetic.h"
#include "tuning.h"

namespace gspn2 {
namespace {

constexpr int64_t kMaxCoordinate = 1 << 30;
constexpr int kSharedSlack = 2048;  // edges, halos and barriers of a block
constexpr int kMinPart = 128;       // positions that are worth a block of their own
constexpr int kMaxPart = 1024;      // 16 warps, 2 positions to a lane
constexpr int kMaxStages = 4;
constexpr int64_t kShortLine = 512;        // whose steps take longer than their loads
constexpr int kMaxTileColumnBytes = 2816;  // of a row of 8-row tiles, two of which have to fit

// Splits the line into `parts` of a multiple of 8 positions.
void split(TiledPlan& plan, int64_t line, int parts) {
  plan.own = planRoundUp(planCeilDiv(line, parts), 8);
  plan.parts = planCeilDiv(line, plan.own);
}

// Parts that a line needs, or more where there are too few slices to keep the device busy.
int choosePartCount(int64_t line, int64_t slices, const DeviceInfo& device) {
  int parts = planCeilDiv(line, kMaxPart);
  while (2 * slices * parts <= device.multiprocessors && 2 * parts <= kMaxClusterParts &&
         line >= static_cast<int64_t>(2 * parts) * kMinPart) {
    parts *= 2;
  }
  return parts;
}

// Cuts the line up, and the steps into tiles.
void cut(TiledPlan& plan, const gspn2_problem_t& problem, const DeviceInfo& device) {
  const int bytes = planElementBytes(problem.dtype);
  int parts = choosePartCount(problem.w, problem.n * problem.c, device);
  if (parts > 1) {  // the halos count towards a block's positions
    const int positions = std::min(kMaxPart, kMaxTileColumnBytes / bytes);
    parts = std::max(parts, planCeilDiv(problem.w, positions - 2 * 8));
  }
  split(plan, problem.w, parts);
  plan.tileSteps = plan.parts == 1 && plan.own * bytes > 2048 ? 4 : 8;
}

}  // namespace

TiledPlan planTiledScan(const DirectionScan& scan, const DeviceInfo& device) {
  const gspn2_problem_t& problem = scan.problem;
  const int bytes = planElementBytes(problem.dtype);
  const bool aligned = problem.w * bytes % kPlanAccessBytes == 0 && isCopyAligned(scan.x) &&
                       isCopyAligned(scan.lam) && isCopyAligned(scan.w) && isCopyAligned(scan.u) &&
                       isCopyAligned(scan.out) && isCopyAligned(scan.sums);
  const int64_t planes = problem.n * std::max({problem.c, scan.gateBatch(), scan.affinityBatch()});
  const bool indexable = problem.h < kMaxCoordinate && problem.w < kMaxCoordinate &&
                         planes * kMaxClusterParts < 2 * kMaxCoordinate;
  const bool stores = scan.output == ScanOutput::kSums && !scan.add;  // tiles can only add
  if (scan.horizontal() || stores || device.computeCapability < kClusterCapability || !aligned ||
      !indexable) {
    return {};
  }
  TiledPlan plan{};
  cut(plan, problem, device);
  if (plan.parts > kMaxClusterParts) return {};

  // Two stages leave room for other blocks on the multiprocessor. Where there are none, short steps
  // of half precision want four smaller ones: 1x128x512x512 on an H200 109 us for 115.
  const bool alone = problem.n * problem.c * plan.parts <= device.multiprocessors;
  const bool isShort = plan.parts == 1 && bytes == 2 && problem.w <= kShortLine && alone;
  if (isShort) plan.tileSteps = 4;
  int tuned[2];  // steps of a tile, stages
  const bool isTuned = readTuning("GSPN2_TILED_PLAN", 2, tuned);
  if (isTuned) plan.tileSteps = tuned[0];
  const int positions = plan.boxes() * plan.boxPositions();
  const int stage =
      scanTensors(scan.output) * ((positions * plan.tileSteps * bytes + 1023) / 1024 * 1024);
  const int room = device.sharedBytesPerBlock - kSharedSlack;
  plan.stages = std::min(room / stage, plan.parts > 1 || bytes == 4 || isShort ? kMaxStages : 2);
  if (isTuned && tuned[1] <= room / stage) {
    plan.stages = tuned[1];
    countTuned();
  }
  return plan.stages >= 2 ? plan : TiledPlan{};
}

cudaError_t launchTiledScan(const DirectionScan& scan, const TiledPlan& plan) {
  return launchByDtype(scan.problem.dtype, launchTiledScanFloat32, launchTiledScanFloat16,
                       launchTiledScanBfloat16, scan, plan);
}

bool tiledLineScanSupports(const LineScanCall& call, const DeviceInfo& device) {
  return planTiledScan(directionOf(call), device).parts > 0;
}

cudaError_t launchTiledLineScan(const LineScanCall& call, const DeviceInfo& device) {
  const DirectionScan scan = directionOf(call);
  const TiledPlan plan = planTiledScan(scan, device);
  return plan.parts == 0 ? cudaErrorNotSupported : launchTiledScan(scan, plan);
}

}  // namespace gspn2
