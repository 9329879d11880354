// The heuristics of GspnProp2D on chip. docs/kernels.md has the reasons.
#include "onchip_plan.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "by_dtype.h"
#include "paths.h"
#include "plan_arithmetic.h"
#include "tuning.h"

namespace gspn2 {
namespace {

constexpr int kWarp = 32;
constexpr int64_t kMaxExtent = 128;      // four positions to a lane
constexpr int64_t kMaxBlockExtent = 64;  // two
constexpr int64_t kMaxSlices = 1 << 28;  // four blocks each
constexpr int kClusterCapability = 90;   // the compute capability that brought clusters
constexpr int kPaired = 2;
constexpr int kMinWorkers = 64;
constexpr int64_t kManySlices = 2;  // to a multiprocessor

bool isVectorised(const Prop2dCall& call) {
  const int64_t bytes = kOnchipVector * planElementBytes(call.problem.dtype);
  const void* const pointers[] = {call.x, call.lam, call.w, call.u, call.d, call.y};
  return call.problem.w % kOnchipVector == 0 &&
         std::all_of(std::begin(pointers), std::end(pointers), [bytes](const void* pointer) {
           return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
         });
}

// Chooses the channels of a block or cluster, and sets the shared memory that they take; false
// where even one does not fit.
bool fits(const gspn2_problem_t& problem, const DeviceInfo& device, int directions, bool pairs,
          OnchipPlan* plan) {
  const bool canPair = pairs && problem.g == 1 && problem.c % kPaired == 0;
  for (plan->channels = canPair ? kPaired : 1; plan->channels > 0; --plan->channels) {
    plan->sharedBytes = onchipShared(static_cast<int>(problem.h), static_cast<int>(problem.w),
                                     plan->rows, plan->channels, directions);
    // Beside it a cluster's block has its barriers.
    if (plan->sharedBytes + 4096 <= static_cast<size_t>(device.sharedBytesPerBlock)) return true;
  }
  return false;
}

bool planBlock(const gspn2_problem_t& problem, const DeviceInfo& device, OnchipPlan* plan) {
  const int64_t longest = std::max(problem.h, problem.w);
  if (longest > kMaxBlockExtent) return false;
  plan->block = true;
  plan->rows = longest <= kWarp ? 1 : 2;
  // Two channels share the work on their affinities where each has no multiprocessor to itself.
  if (!fits(problem, device, kOnchipDirections, problem.n * problem.c > device.multiprocessors,
            plan)) {
    return false;
  }
  const int height = static_cast<int>(problem.h);
  const int vectors = static_cast<int>(problem.w) / plan->vector;
  const int work = planRoundUp(vectors, kOnchipGroup) * height;  // of a direction
  const int turns = planCeilDiv(work, kOnchipMaxThreads);
  plan->workers = std::max(planRoundUp(planCeilDiv(work, turns), kWarp), kOnchipDirections * kWarp);
  return true;
}

bool planCluster(const gspn2_problem_t& problem, const DeviceInfo& device, OnchipPlan* plan) {
  const int64_t longest = std::max(problem.h, problem.w);
  if (device.computeCapability < kClusterCapability || longest > kMaxExtent) return false;
  plan->block = false;
  plan->rows = longest <= 2 * kWarp ? 2 : 4;
  // Clusters of four do not reach every multiprocessor: where so many would be needed, two channels
  // share one. Four positions to a lane leave no registers for that.
  const int64_t blocks = problem.n * problem.c * kOnchipDirections;
  const bool pairs = plan->rows == 2 && blocks > device.multiprocessors * 3 / 4;
  if (!fits(problem, device, 1, pairs, plan)) return false;
  // A batch is at least two vectors of steps; small maps need no more than all their vectors, and
  // leave room for other blocks.
  const int least = std::max(kMinWorkers, planRoundUp(2 * static_cast<int>(longest), kWarp));
  const int all = planRoundUp(static_cast<int>(problem.h * problem.w) / plan->vector, kWarp);
  plan->workers =
      std::clamp(all, least, longest <= kWarp ? kOnchipMaxSmallWorkers : kOnchipMaxWorkers);
  return true;
}

// A block or a cluster, the channels that share it, its workers or 0, as the environment says it;
// false where that does not fit.
bool planAsTuned(const gspn2_problem_t& problem, DeviceInfo device, const int (&tuned)[3],
                 OnchipPlan* plan) {
  device.multiprocessors = tuned[1] == kPaired ? 0 : INT32_MAX;  // what pairing depends on
  if (!(tuned[0] != 0 ? planBlock : planCluster)(problem, device, plan)) return false;
  if (plan->channels != tuned[1]) return false;
  if (tuned[2] != 0) plan->workers = tuned[2];
  countTuned();
  return true;
}

}  // namespace

bool planOnchip(const Prop2dCall& call, const DeviceInfo& device, OnchipPlan* plan) {
  const gspn2_problem_t& problem = call.problem;
  const int64_t slices = problem.n * problem.c;
  if (slices > kMaxSlices || problem.h > kMaxExtent || problem.w > kMaxExtent) return false;
  plan->vector = isVectorised(call) ? kOnchipVector : 1;
  plan->overlaps = device.computeCapability >= kClusterCapability;
  if (int tuned[3]; readTuning("GSPN2_ONCHIP_PLAN", 3, tuned)) {
    return planAsTuned(problem, device, tuned, plan);
  }
  // Where clusters no longer fit at once, blocks of small maps do better: they share no barrier.
  const bool small = std::max(problem.h, problem.w) <= kWarp;
  const bool many = slices > kManySlices * device.multiprocessors;
  if (small && many && planBlock(problem, device, plan)) return true;
  return planCluster(problem, device, plan) || planBlock(problem, device, plan);
}

bool onchipProp2dSupports(const Prop2dCall& call, const DeviceInfo& device) {
  OnchipPlan plan{};
  return planOnchip(call, device, &plan);
}

cudaError_t launchOnchipProp2d(const Prop2dCall& call, const DeviceInfo& device) {
  OnchipPlan plan{};
  if (!planOnchip(call, device, &plan)) return cudaErrorNotSupported;
  return launchByDtype(call.problem.dtype, launchOnchipFloat32, launchOnchipFloat16,
                       launchOnchipBfloat16, call, plan);
}

}  // namespace gspn2
