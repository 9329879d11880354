// The heuristics of the strip scans. docs/kernels.md has the reasons.
#include "strip_plan.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "plan_arithmetic.h"
#include "tuning.h"

namespace gspn2 {
namespace {

constexpr int64_t kMaxExtent = INT32_MAX / 2;
constexpr int kClusterCapability =
    90;                       // the compute capability that brought clusters and the copy engine
constexpr int kMaxParts = 8;  // the portable cluster size
constexpr int kMinPart = 64;  // positions that are worth a block of their own
constexpr int kPartUnit = 8;  // a part is a multiple of this
constexpr int kMaxStages = 4;
constexpr int kMaxSmallStages = 3;  // of a block with one warp: more of them fit
constexpr int kMinStages = 2;
constexpr int kManyParts = 3;
constexpr int kProducedWarps = 3;  // that one warp's copies suffice for, in a horizontal scan

// Positions of a lane and the most warps of a block, in the order of preference.
struct Shape {
  int rows, warps;
};
constexpr Shape kColumnShapes[] = {{1, stripColumnWalkers(1)}, {2, stripColumnWalkers(2)}};
constexpr Shape kRowShapes[] = {{1, 1}, {2, kStripRowWalkers}, {4, kStripRowWalkers}};

int sharedBytes(const StripScan& scan, const StripPlan& plan) {
  const int elementBytes = planElementBytes(scan.problem.dtype);
  return scan.horizontal()
             ? columnLayout(scan.output, plan.rows, plan.own, plan.parts, plan.warps, plan.stages,
                            elementBytes, scan.weightBytes)
                   .total
             : rowLayout(scan.output, plan.rows, plan.warps, plan.stages, elementBytes,
                         scan.weightBytes)
                   .total;
}

// `parts`, or fewer where rounding leaves the last ones empty.
void setParts(int64_t line, int parts, StripPlan* plan) {
  plan->own = planRoundUp(planCeilDiv(line, parts), kPartUnit);
  plan->parts = planCeilDiv(line, plan->own);
}

// Cuts a part into warps of a shape; false where it is too long for a block.
bool cutPart(const StripScan& scan, const DeviceInfo& device, const Shape& shape,
             StripPlan* plan) {
  plan->rows = shape.rows;
  plan->warps = stripWarps(plan->own, plan->parts, shape.rows);
  if (plan->warps > shape.warps) return false;
  plan->producers = !scan.horizontal()             ? (plan->bulk ? kStripRowProducers : 1)
                    : plan->warps > kProducedWarps ? 2
                                                   : 1;
  plan->stages = plan->warps == 1    ? kMaxSmallStages
                 : scan.horizontal() ? kMinStages
                                     : kMaxStages;
  for (; plan->stages >= kMinStages; --plan->stages) {
    if (sharedBytes(scan, *plan) <= device.sharedBytesPerBlock) return true;
  }
  return false;
}

// Cuts the line into `parts` or fewer; false where a part is too long for a block.
bool cut(const StripScan& scan, const DeviceInfo& device, int64_t line, int parts,
         StripPlan* plan) {
  setParts(line, parts, plan);
  const auto fits = [&](const Shape& shape) { return cutPart(scan, device, shape, plan); };
  return scan.horizontal()
             ? std::any_of(std::begin(kColumnShapes), std::end(kColumnShapes), fits)
             : std::any_of(std::begin(kRowShapes), std::end(kRowShapes), fits);
}

// Whether one part more than a long line needs makes a horizontal line scan faster: it does where
// memory bounds it. On an H100, 16x8x1024x1024, in ms: fp32 four parts 1.26, five 1.22 (with
// sigmoid 1.29, 1.23); fp16 three parts 0.795, four 0.675, but with sigmoid 0.845, 0.911.
bool prefersShorterParts(const StripScan& scan) {
  return scan.horizontal() && scan.output == StripOutput::kStates &&
         (scan.problem.dtype == GSPN2_FLOAT32 || scan.problem.normalize == GSPN2_NORMALIZE_NONE);
}

// The same as the environment says it; false where that is too much for a block or a cluster.
bool cutAsTuned(const StripScan& scan, const DeviceInfo& device, int64_t line,
                const int (&tuned)[4], StripPlan* plan) {
  if (scan.horizontal() && tuned[0] > 2) return false;
  plan->rows = tuned[0];
  setParts(line, tuned[1], plan);
  plan->stages = tuned[2];
  plan->producers = tuned[3];
  plan->warps = stripWarps(plan->own, plan->parts, plan->rows);
  const int most = scan.horizontal() ? stripColumnWalkers(plan->rows) : kStripRowWalkers;
  const int mostProducers = scan.horizontal() ? kStripColumnProducers : kStripRowProducers;
  if (plan->producers < 1 || plan->producers > mostProducers || plan->stages < kMinStages ||
      plan->parts > kMaxParts || plan->warps > most ||
      sharedBytes(scan, *plan) > device.sharedBytesPerBlock) {
    return false;
  }
  countTuned();
  return true;
}

}  // namespace

bool planStripScan(const StripScan& scan, const DeviceInfo& device, StripPlan* plan) {
  const gspn2_problem_t& problem = scan.problem;
  const int64_t slices = problem.n * problem.c;
  const int64_t line = scan.horizontal() ? problem.h : problem.w;
  if (problem.w * planElementBytes(problem.dtype) % kStripAccess != 0) return false;
  if (problem.h > kMaxExtent || problem.w > kMaxExtent || slices > kMaxExtent / kMaxParts ||
      problem.n * 12 * problem.c > kMaxExtent) {
    return false;
  }
  const bool hopper = device.computeCapability >= kClusterCapability;
  const int most = hopper ? kMaxParts : 1;  // parts of a line meet in a cluster
  plan->bulk = hopper;
  if (int tuned[4]; readTuning("GSPN2_STRIP_PLAN", 4, tuned)) {
    return cutAsTuned(scan, device, line, tuned, plan);
  }
  int least = 1;
  while (least <= most && !cut(scan, device, line, least, plan)) ++least;
  if (least > most) return false;
  // As few parts as the line fits into, or more where there are too few slices to keep the device
  // busy, or where a part would leave the stages little room.
  const int64_t useful =
      std::max<int64_t>(std::min(device.multiprocessors / slices, line / kMinPart),
                        prefersShorterParts(scan) && least >= kManyParts ? least + 1 : 0);
  const int parts = static_cast<int>(std::clamp<int64_t>(useful, least, most));
  return cut(scan, device, line, parts, plan);
}

StripScan stripDirection(const Prop2dCall& call, int k, StripOutput output, int weightBytes) {
  const gspn2_problem_t& problem = call.problem;
  const int64_t bytes = planElementBytes(problem.dtype);
  const int64_t plane = problem.h * problem.w;
  const auto at = [](const void* base, int64_t offset) -> const void* {
    return base == nullptr ? nullptr : static_cast<const char*>(base) + offset;
  };
  StripScan scan{};
  scan.problem = problem;
  scan.direction = static_cast<gspn2_direction_t>(k);
  scan.output = output;
  scan.strides = call.strides;
  scan.weightBytes = weightBytes;
  scan.x = call.x;
  scan.lam = at(call.lam, k * problem.c * plane * bytes);
  scan.w = at(call.w, k * 3 * problem.g * plane * weightBytes);
  scan.u = at(call.u, k * problem.c * plane * bytes);
  scan.m = at(call.m, k * bytes);
  return scan;
}

StripParams stripParams(const StripScan& scan, const StripPlan& plan) {
  const gspn2_problem_t& problem = scan.problem;
  StripParams params{};
  params.x = scan.x;
  params.lam = scan.lam;
  params.w = scan.w;
  params.u = scan.u;
  params.m = scan.m;
  params.out = scan.out;
  params.sums = scan.sums;
  params.add = scan.add;
  params.bulk = plan.bulk;
  params.reverse = scan.reverse();
  params.plane = problem.h * problem.w;
  params.line = static_cast<int>(scan.horizontal() ? problem.h : problem.w);
  params.steps = static_cast<int>(scan.horizontal() ? problem.w : problem.h);
  params.chunk = problem.chunk == 0 || problem.chunk > params.steps
                     ? params.steps
                     : static_cast<int>(problem.chunk);
  params.channels = static_cast<int>(problem.c);
  params.affinities = static_cast<int>(problem.g);
  params.gateBatch = scan.strides.gates / params.plane;
  params.affinityBatch = scan.strides.w / params.plane;
  params.own = plan.own;
  params.parts = plan.parts;
  params.warps = plan.warps;
  params.producers = plan.producers;
  params.stages = plan.stages;
  return params;
}

}  // namespace gspn2
