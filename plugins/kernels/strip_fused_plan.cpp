// The heuristics of GspnProp2D in one pass by strips, and its kernel's parameters. docs/kernels.md
// has the reasons.
#include "strip_fused_plan.h"

#include <algorithm>

#include "by_dtype.h"
#include "paths.h"
#include "plan_arithmetic.h"
#include "strip_plan.h"
#include "strip_weights.h"

namespace gspn2 {
namespace {

constexpr int kClusterCapability = 90;  // the compute capability that brought clusters
constexpr int64_t kMaxExtent = 1024;
constexpr int64_t kMaxSlices = 1 << 28;
constexpr int kRowUnit = 8;  // a block's rows are a multiple of this, but for the last one's
constexpr int kMinStages = 2;
constexpr int64_t kManySlices = 4;  // to a multiprocessor
constexpr int kAlignment = 1024;
constexpr int kBarrierBytes = 8 + kFusedPasses * kFusedBarrierBytes;  // the carry's, the passes'

// Lays out a block's shared memory: sums, the carry, the ring of whichever pass is on, the words of
// exchanges, barriers.
bool layOut(const gspn2_problem_t& problem, const DeviceInfo& device, FusedPlan* plan) {
  const int width = static_cast<int>(problem.w);
  const int elementBytes = planElementBytes(problem.dtype);
  plan->sumPitch = width + 4;
  plan->carryOffset = plan->ownRows * plan->sumPitch * 4;
  plan->ringOffset = planRoundUp(plan->carryOffset + width * 4, kAlignment);
  const int exchangeBytes =
      stripExchangeBytes(std::max(plan->columnWarps, plan->rowWarps) * kWarpLanes * kFusedRows);
  const auto columnRing = [&](int stages) {
    return columnLayout(StripOutput::kShared, problem.normalize, kFusedRows, plan->ownRows,
                        plan->parts, plan->columnWarps, stages, elementBytes, plan->weightBytes)
        .exchangeOffset;
  };
  const auto rowRing = [&](int stages) {
    return rowLayout(StripOutput::kShared, kFusedRows, plan->rowWarps, stages, elementBytes,
                     plan->weightBytes)
        .exchangeOffset;
  };
  const auto fitting = [&](const auto& ring) {
    int stages = kFusedMaxStages;
    while (stages >= kMinStages && plan->ringOffset + ring(stages) + exchangeBytes + kBarrierBytes >
                                       device.sharedBytesPerBlock) {
      --stages;
    }
    return stages;
  };
  plan->columnStages = fitting(columnRing);
  plan->rowStages = fitting(rowRing);
  if (plan->columnStages < kMinStages || plan->rowStages < kMinStages) return false;
  const int largest = std::max(columnRing(plan->columnStages), rowRing(plan->rowStages));
  plan->exchangeOffset = plan->ringOffset + planRoundUp(largest, 16);
  plan->barrierOffset = plan->exchangeOffset + exchangeBytes;
  plan->sharedBytes = plan->barrierOffset + kBarrierBytes;
  return plan->sharedBytes <= device.sharedBytesPerBlock;
}

// Chooses blocks; false where no choice fits.
bool cut(const gspn2_problem_t& problem, const DeviceInfo& device, FusedPlan* plan) {
  const int height = static_cast<int>(problem.h);
  for (plan->parts = 1; plan->parts <= kFusedMaxParts; ++plan->parts) {
    plan->ownRows = planRoundUp(planCeilDiv(height, plan->parts), kRowUnit);
    if (plan->parts > 1 && plan->ownRows >= height) return false;  // nothing is left to share
    plan->columnWarps = stripWarps(plan->ownRows, plan->parts, kFusedRows);
    plan->rowWarps = stripWarps(planRoundUp(problem.w, kRowUnit), 1, kFusedRows);
    if (std::max(plan->columnWarps, plan->rowWarps) > kStripSharedWarps) continue;
    if (layOut(problem, device, plan)) return true;
  }
  return false;
}

// A direction as a block walks it: `first` of all, or in the `second` of two blocks' turns.
StripParams passParams(const Prop2dCall& call, const FusedPlan& plan, int direction, int rank,
                       bool first, bool second) {
  const gspn2_problem_t& problem = call.problem;
  const StripScan scan = stripDirection(call, direction, StripOutput::kShared, plan.weightBytes);
  StripPlan pass{};
  pass.own = scan.horizontal() ? plan.ownRows : planRoundUp(problem.w, kRowUnit);
  pass.parts = scan.horizontal() ? plan.parts : 1;
  pass.warps = scan.horizontal() ? plan.columnWarps : plan.rowWarps;
  // Horizontally all those load that do not walk.
  const int walkers = std::max(plan.columnWarps, plan.rowWarps);
  pass.producers = kFusedProducers + (scan.horizontal() ? walkers - pass.warps : 0);
  pass.stages = scan.horizontal() ? plan.columnStages : plan.rowStages;
  pass.bulk = true;
  StripParams params = stripParams(scan, pass);
  params.add = !first || call.d != nullptr;
  params.sumPitch = plan.sumPitch;
  if (scan.horizontal()) return params;
  // A vertical pass is over the block's own rows.
  const int height = params.steps;
  params.steps = std::min(plan.ownRows, height - rank * plan.ownRows);
  params.phase = second ? (height - params.steps) % params.chunk : 0;
  const int64_t skipped = rank * plan.ownRows * problem.w;
  for (const void** tensor : {&params.x, &params.lam, &params.w, &params.u}) {
    const int bytes = tensor == &params.w ? plan.weightBytes : planElementBytes(problem.dtype);
    *tensor = static_cast<const char*>(*tensor) + skipped * bytes;
  }
  return params;
}

}  // namespace

bool planFused(const gspn2_problem_t& problem, const DeviceInfo& device, FusedPlan* plan) {
  const int elementBytes = planElementBytes(problem.dtype);
  if (device.computeCapability < kClusterCapability || problem.h > kMaxExtent ||
      problem.w > kMaxExtent || problem.h * problem.w > kMaxFusedMap ||
      problem.n * problem.c > kMaxSlices || problem.n * 12 * problem.c > INT32_MAX / 2 ||
      problem.w * elementBytes % kStripAccess != 0) {
    return false;
  }
  // float32 weights take more room than the affinities of a 16-bit dtype.
  plan->weighs = weighsOnce(problem);
  plan->weightBytes = plan->weighs ? 4 : elementBytes;
  if (cut(problem, device, plan)) return true;
  plan->weighs = false;
  plan->weightBytes = elementBytes;
  return cut(problem, device, plan);
}

FusedParams fusedParams(const Prop2dCall& call, const FusedPlan& plan) {
  const gspn2_problem_t& problem = call.problem;
  FusedParams params{};
  for (int rank = 0; rank < plan.parts; ++rank) {
    for (int k = 0; k < kFusedPasses; ++k) {
      // The second block takes the vertical directions the other way round.
      const int direction = k >= 2 && rank == 1 ? 5 - k : k;
      params.passes[rank][k] =
          passParams(call, plan, direction, rank, k == 0, plan.parts > 1 && k + 1 == kFusedPasses);
    }
  }
  params.x = call.x;
  params.d = call.d;
  params.m = call.m;
  params.y = call.y;
  params.plane = problem.h * problem.w;
  params.batch = call.strides.gates / params.plane;
  params.width = static_cast<int>(problem.w);
  params.channels = static_cast<int>(problem.c);
  params.parts = plan.parts;
  params.ownRows = plan.ownRows;
  params.walkers = std::max(plan.columnWarps, plan.rowWarps);
  params.sumPitch = plan.sumPitch;
  params.carryOffset = plan.carryOffset;
  params.ringOffset = plan.ringOffset;
  params.exchangeOffset = plan.exchangeOffset;
  params.barrierOffset = plan.barrierOffset;
  return params;
}

bool fusedProp2dSupports(const Prop2dCall& call, const DeviceInfo& device) {
  FusedPlan plan{};
  return isCopyAligned(call.x) && isCopyAligned(call.lam) && isCopyAligned(call.w) &&
         isCopyAligned(call.u) && isCopyAligned(call.d) && isCopyAligned(call.y) &&
         isCopyAligned(call.workspace) && planFused(call.problem, device, &plan);
}

// On an H200, fused and by a launch for each direction, in ms, fp32 (fp16): 32x32x128x128, a block
// to a map, 0.514, 0.543 (0.510, 0.567); 8x64x256x256, two blocks, 0.901, 0.824 (0.855, 0.831).
// With few slices blocks would stand idle.
bool isFasterFused(const gspn2_problem_t& problem, const DeviceInfo& device) {
  FusedPlan plan{};
  return problem.n * problem.c >= kManySlices * device.multiprocessors &&
         planFused(problem, device, &plan) && plan.parts == 1 && plan.weighs;
}

cudaError_t launchFusedProp2d(const Prop2dCall& given, const DeviceInfo& device) {
  Prop2dCall call = given;
  FusedPlan plan{};
  if (!planFused(call.problem, device, &plan)) return cudaErrorNotSupported;
  if (plan.weighs) {
    const cudaError_t status = weighOnce(static_cast<float*>(call.workspace), &call);
    if (status != cudaSuccess) return status;
  }
  return launchByDtype(call.problem.dtype, launchFusedFloat32, launchFusedFloat16,
                       launchFusedBfloat16, call, plan);
}

}  // namespace gspn2
