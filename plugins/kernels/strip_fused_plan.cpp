// The heuristics of GspnProp2D in one pass by strips, and its kernel's parameters. docs/kernels.md
// has the reasons.
#include "strip_fused_plan.h"

#include <algorithm>

#include "paths.h"
#include "plan_arithmetic.h"

namespace gspn2 {
namespace {

constexpr int kClusterCapability = 90;  // the compute capability that brought clusters
constexpr int64_t kMaxExtent = 1024;
constexpr int64_t kMaxSlices = 1 << 28;
constexpr int kRowUnit = 8;  // a block's rows are a multiple of this, but for the last one's
constexpr int kMinStages = 2;
constexpr int kAlignment = 1024;

int alignUp(int value, int alignment) { return planCeilDiv(value, alignment) * alignment; }

// Warps that walk a line of which a block has `own` positions.
int walkers(int own, bool meets, int rows) {
  const int extent = meets ? own + 2 * kStripHalo : own;
  if (extent <= kWarpLanes * rows) return 1;
  return planCeilDiv(own + (meets ? 2 * kStripHalo - 2 * kStripEdge : kStripEdge),
                     stripStride(rows));
}

// Lays out a block's shared memory: sums, the carry, the ring of whichever pass is on, barriers.
bool layOut(const gspn2_problem_t& problem, const DeviceInfo& device, FusedPlan* plan) {
  const int width = static_cast<int>(problem.w);
  const int elementBytes = planElementBytes(problem.dtype);
  plan->sumPitch = width + 4;
  plan->carryOffset = plan->ownRows * plan->sumPitch * 4;
  plan->ringOffset = alignUp(plan->carryOffset + width * 4, kAlignment);
  const auto fitting = [&](const auto& layout, int warps) {
    int stages = kFusedMaxStages;
    while (stages >= kMinStages &&
           plan->ringOffset +
                   layout(StripOutput::kShared, plan->rows, warps, stages, elementBytes).total + 8 +
                   kFusedPasses * kFusedBarrierBytes >
               device.sharedBytesPerBlock) {
      --stages;
    }
    return stages;
  };
  plan->columnStages = fitting(columnLayout, plan->columnWarps);
  plan->rowStages = fitting(rowLayout, plan->rowWarps);
  if (plan->columnStages < kMinStages || plan->rowStages < kMinStages) return false;
  const int ring = std::max(
      columnLayout(StripOutput::kShared, plan->rows, plan->columnWarps, plan->columnStages,
                   elementBytes)
          .total,
      rowLayout(StripOutput::kShared, plan->rows, plan->rowWarps, plan->rowStages, elementBytes)
          .total);
  plan->barrierOffset = plan->ringOffset + alignUp(ring, 8);
  plan->sharedBytes = plan->barrierOffset + 8 + kFusedPasses * kFusedBarrierBytes;
  return plan->sharedBytes <= device.sharedBytesPerBlock;
}

StripParams passParams(const Prop2dCall& call, const FusedPlan& plan, int direction, int rank,
                       bool first, bool second) {
  const gspn2_problem_t& problem = call.problem;
  const int bytes = planElementBytes(problem.dtype);
  const int height = static_cast<int>(problem.h);
  const int width = static_cast<int>(problem.w);
  const bool horizontal = direction < 2;
  const int firstRow = rank * plan.ownRows;
  const int rows = std::min(plan.ownRows, height - firstRow);
  const int64_t plane = problem.h * problem.w;
  const int64_t skipped = horizontal ? 0 : int64_t{firstRow} * width;  // vertical: the own rows
  const auto at = [&](const void* base, int64_t elements) -> const void* {
    return static_cast<const char*>(base) + elements * bytes;
  };
  StripParams params{};
  params.x = at(call.x, skipped);
  params.lam = at(call.lam, direction * problem.c * plane + skipped);
  params.w = at(call.w, int64_t{direction} * 3 * problem.g * plane + skipped);
  params.u = at(call.u, direction * problem.c * plane + skipped);
  params.m = call.m == nullptr ? nullptr : at(call.m, direction);
  params.add = !first || call.d != nullptr;
  params.bulk = true;
  params.reverse = direction % 2 != 0;
  params.plane = plane;
  params.line = horizontal ? height : width;
  params.steps = horizontal ? width : rows;
  const int scanned = horizontal ? width : height;
  params.chunk =
      problem.chunk == 0 || problem.chunk > scanned ? scanned : static_cast<int>(problem.chunk);
  params.phase = second ? (height - rows) % params.chunk : 0;
  params.sumPitch = plan.sumPitch;
  params.channels = static_cast<int>(problem.c);
  params.affinities = static_cast<int>(problem.g);
  params.gateBatch = static_cast<int>(kFusedPasses * problem.c);
  params.affinityBatch = static_cast<int>(kFusedPasses * 3 * problem.g);
  params.own = horizontal ? plan.ownRows : alignUp(width, kRowUnit);
  params.parts = horizontal ? plan.parts : 1;
  params.warps = horizontal ? plan.columnWarps : plan.rowWarps;
  params.producers = kFusedProducers;
  params.stages = horizontal ? plan.columnStages : plan.rowStages;
  return params;
}

}  // namespace

bool planFused(const gspn2_problem_t& problem, const DeviceInfo& device, FusedPlan* plan) {
  if (device.computeCapability < kClusterCapability || problem.h > kMaxExtent ||
      problem.w > kMaxExtent || problem.n * problem.c > kMaxSlices ||
      problem.n * 12 * problem.c > INT32_MAX / 2 ||
      problem.w * planElementBytes(problem.dtype) % kStripAccess != 0) {
    return false;
  }
  const int height = static_cast<int>(problem.h);
  for (plan->parts = 1; plan->parts <= kFusedMaxParts; ++plan->parts) {
    plan->ownRows = alignUp(planCeilDiv(height, plan->parts), kRowUnit);
    if (plan->parts > 1 && plan->ownRows >= height) return false;  // nothing is left to share
    for (plan->rows = 1; plan->rows <= 2; ++plan->rows) {
      plan->columnWarps = walkers(plan->ownRows, plan->parts > 1, plan->rows);
      plan->rowWarps = walkers(alignUp(static_cast<int>(problem.w), kRowUnit), false, plan->rows);
      if (std::max(plan->columnWarps, plan->rowWarps) > kFusedMaxWalkers) continue;
      if (layOut(problem, device, plan)) return true;
    }
  }
  return false;
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
  params.width = static_cast<int>(problem.w);
  params.channels = static_cast<int>(problem.c);
  params.parts = plan.parts;
  params.ownRows = plan.ownRows;
  params.walkers = std::max(plan.columnWarps, plan.rowWarps);
  params.sumPitch = plan.sumPitch;
  params.carryOffset = plan.carryOffset;
  params.ringOffset = plan.ringOffset;
  params.barrierOffset = plan.barrierOffset;
  return params;
}

bool fusedProp2dSupports(const Prop2dCall& call, const DeviceInfo& device) {
  FusedPlan plan{};
  return isCopyAligned(call.x) && isCopyAligned(call.lam) && isCopyAligned(call.w) &&
         isCopyAligned(call.u) && isCopyAligned(call.d) && isCopyAligned(call.y) &&
         planFused(call.problem, device, &plan);
}

cudaError_t launchFusedProp2d(const Prop2dCall& call, const DeviceInfo& device) {
  FusedPlan plan{};
  if (!planFused(call.problem, device, &plan)) return cudaErrorNotSupported;
  switch (call.problem.dtype) {
    case GSPN2_FLOAT32:
      return launchFusedFloat32(call, plan);
    case GSPN2_FLOAT16:
      return launchFusedFloat16(call, plan);
    case GSPN2_BFLOAT16:
      return launchFusedBfloat16(call, plan);
  }
  return cudaErrorNotSupported;
}

}  // namespace gspn2
